"""``mediaweave train`` and ``mediaweave evaluate``: fusers of the user's own labels."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.config import Settings, load_settings
from pipeline.models.base import UNKNOWN_LICENCE
from pipeline.plan.profiles import profile_chain
from pipeline.telemetry import configure_logging
from pipeline.training.options import TrainOptions
from workers.cli.options import DatabaseOption, JsonOption, open_existing, print_json

if TYPE_CHECKING:
    from pipeline.runner.labelled import Labelled
    from pipeline.runner.runtime import Runtime
    from pipeline.runner.training import NewFuser
    from pipeline.training.labels import LabelledSpan

LabelFile = Annotated[
    Path | None,
    typer.Option(
        "--labels", metavar="FILE", help="CSV with the columns uri, start, end, label[, caption]."
    ),
]
Corrections = Annotated[
    bool,
    typer.Option("--corrections", help="Instead of a file: what people corrected in the database."),
]
SkipUnknown = Annotated[
    bool,
    typer.Option("--skip-unknown", help="Leave out what is not in the database, or beyond an end."),
]
TaskOption = Annotated[
    Literal["tags", "class"],
    typer.Option("--task", help="tags: any number of labels hold; class: exactly one."),
]


def train(
    name: Annotated[str, typer.Option("--name", help="What the fuser is called.")],
    labels: LabelFile = None,
    corrections: Corrections = False,
    task: TaskOption = "tags",
    fuser: Annotated[
        Literal["late", "concat", "attention"],
        typer.Option("--fuser", help="How modalities are put together."),
    ] = "attention",
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most so many.")] = 30,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    distill_from: Annotated[
        str | None,
        typer.Option(
            "--distill-from", metavar="NAME|FOLDER", help="A trained fuser to learn from, too."
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option("--share", help="Of the parameters it would have, such as 0.25."),
    ] = None,
    modality_dropout: Annotated[
        float, typer.Option("--modality-dropout", help="Share of modalities hidden in training.")
    ] = TrainOptions().modality_dropout,
    mixup: Annotated[
        float, typer.Option("--mixup", help="How much features are mixed (alpha); 0: not at all.")
    ] = 0.2,
    feature_noise: Annotated[
        float, typer.Option("--feature-noise", help="Standard deviation of noise on features.")
    ] = TrainOptions().feature_noise,
    class_weights: Annotated[
        bool,
        typer.Option("--class-weights", help="Let rare labels count more; they score higher then."),
    ] = False,
    licence: Annotated[str, typer.Option("--licence", help="Of the labels.")] = UNKNOWN_LICENCE,
    skip_unknown: SkipUnknown = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a fuser on labels of your own, from the stored features of analysed assets.

    Nothing is decoded again. The assets are divided by their contents: 70 % to learn from, 15 % to
    choose and calibrate by, 15 % to test on. Interrupted, the same command goes on. Exit code 2:
    the labels do not do.
    """
    from pipeline.fusion.neural import checkpoint
    from pipeline.runner import training

    console = Console(stderr=True, highlight=False)
    with closing(_runtime(database)) as runtime, _bars(console) as bars:
        spans = _spans(runtime, labels, corrections=corrections, task=task)
        labelled = _labelled(runtime, spans, bars, console, skip_unknown=skip_unknown)
        data = training.training_set(
            labelled, task, name=labels.name if labels else "corrections", licence=licence
        )
        teacher = taught_by = None
        if distill_from is not None:
            teacher = training.load_fuser(runtime, distill_from, labelled)
            taught_by = checkpoint.digest(training.fuser_folder(runtime, distill_from))
        bar = bars.add_task(f"training {name}", total=epochs)
        made = training.train_fuser(
            runtime,
            name,
            training.configuration(data, labelled, fuser),
            data,
            TrainOptions(
                epochs=epochs,
                seed=seed,
                modality_dropout=modality_dropout,
                mixup=mixup,
                feature_noise=feature_noise,
                class_weights=class_weights,
            ),
            teacher=teacher,
            taught_by=taught_by,
            share=share,
            on_progress=lambda done: bars.update(
                bar, completed=done.epoch, description=f"training {name}, loss {done.loss:.3f}"
            ),
        )
    report = made.trained.report
    if as_json:
        print_json(
            {
                "name": made.info.name,
                "revision": made.info.revision,
                "folder": str(made.folder),
                "is_new": made.is_new,
                "epochs": report.epochs,
                "parameters": report.parameters,
                "calibrated": report.calibrated,
                "data_sha256": made.trained.data_digest,
                "test": _plain(report.test),
                "without": {each: _plain(own) for each, own in report.without.items()},
            }
        )
        return
    out = Console(highlight=False, soft_wrap=True)
    _print_figures(out, {"all modalities": report.test} | _without(report.without))
    known = "" if made.is_new else " (as it was trained before)"
    out.print(f"{made.folder}: {report.parameters:,} parameters, {report.epochs} epochs{known}")
    if not report.calibrated:
        out.print(
            "no asset with labels fell into the validation part: scores are not calibrated, and "
            "the last epoch was kept; label more"
        )
    out.print(f"its card: {made.folder / 'README.md'}")
    out.print("To use it, say in mediaweave.toml (only fusing is done again):", markup=False)
    out.print(_settings_for(runtime.settings, made), markup=False)


def evaluate(
    fusers: Annotated[
        list[str], typer.Argument(metavar="FUSER [OTHER]", help="Names or folders; one or two.")
    ],
    labels: LabelFile = None,
    corrections: Corrections = False,
    task: TaskOption = "tags",
    part: Annotated[
        Literal["test", "validation", "all"],
        typer.Option("--part", help="Of the labelled assets, as training divides them."),
    ] = "test",
    skip_unknown: SkipUnknown = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a fuser on labels of your own, or compare two on the same assets.

    The test part is what `train` never learned from, whichever labels were added since. Two are
    compared by a paired test: a p value below 0.05 says that the difference is hardly chance.
    """
    from pipeline.errors import ConfigurationError
    from pipeline.runner import training
    from pipeline.training.compare import compare, measure
    from pipeline.training.data import split_by_group

    if len(fusers) > 2:
        raise ConfigurationError("name one fuser to measure, or two to compare")
    console = Console(stderr=True, highlight=False)
    with closing(_runtime(database)) as runtime, _bars(console) as bars:
        spans = _spans(runtime, labels, corrections=corrections, task=task)
        labelled = _labelled(runtime, spans, bars, console, skip_unknown=skip_unknown)
        data = training.training_set(labelled, task, name="labels", licence=UNKNOWN_LICENCE)
        rows = training.rows_of(split_by_group(data.groups), part)
        if not rows:
            raise ConfigurationError(
                f"none of {len(set(data.groups))} labelled assets falls into the {part} part: "
                "label more, or say --part all"
            )
        loaded = [training.load_fuser(runtime, name, labelled) for name in fusers]
        figures = {
            name: measure(each, data, rows) for name, each in zip(fusers, loaded, strict=True)
        }
        compared = compare(loaded[0], loaded[1], data, rows) if len(loaded) == 2 else None
    differences = {
        name: found
        for name in ("accuracy", "mean_average_precision")
        if (found := getattr(compared, name, None)) is not None
    }
    if as_json:
        print_json(
            {
                "shots": len(rows),
                "figures": {name: _plain(own) for name, own in figures.items()},
                "differences": {
                    name: {**_interval(own.difference), "p_value": own.p_value}
                    for name, own in differences.items()
                },
            }
        )
        return
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"{len(rows)} shots of the {part} part")
    _print_figures(out, figures)
    for name, own in differences.items():
        out.print(
            f"{fusers[1]} less {fusers[0]}: {_title(name)} {own.difference}, p {own.p_value:.3g}",
            markup=False,
        )


def _runtime(database: str | None) -> "Runtime":
    from pipeline.runner.runtime import Runtime

    settings = load_settings(database=database)
    configure_logging(level="WARNING", as_json=False)
    open_existing(settings).close()
    return Runtime(settings)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _spans(
    runtime: "Runtime", labels: Path | None, *, corrections: bool, task: str
) -> "list[LabelledSpan]":
    from pipeline.errors import ConfigurationError
    from pipeline.runner import labelled
    from pipeline.training.labels import read_labels

    if (labels is None) != corrections:
        raise ConfigurationError("give either --labels FILE or --corrections")
    if labels is not None:
        return read_labels(labels)
    if task != "tags":
        raise ConfigurationError("corrections are of tags: say --task tags with --corrections")
    return labelled.corrections(runtime)


def _labelled(
    runtime: "Runtime",
    spans: "Sequence[LabelledSpan]",
    bars: Progress,
    console: Console,
    *,
    skip_unknown: bool,
) -> "Labelled":
    from pipeline.runner.labelled import collect

    bar = bars.add_task("reading features", total=None)
    labelled = collect(
        runtime,
        spans,
        skip_unknown=skip_unknown,
        on_progress=lambda done, total: bars.update(bar, completed=done, total=total),
    )
    for sentence in labelled.notes:
        console.print(f"mediaweave: {sentence}", markup=False, soft_wrap=True)
    return labelled


def _print_figures(out: Console, columns: Mapping[str, Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for own in columns.values() for name in own))
    if not names:
        out.print("nothing was measured: no asset with labels fell into the test part")
        return
    table = Table("95 % intervals over assets", *columns, box=None, pad_edge=False)
    for name in names:
        table.add_row(_title(name), *(str(own.get(name, "")) for own in columns.values()))
    out.print(table)


def _without(report: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {f"without {modality}": own for modality, own in report.items()}


def _title(name: str) -> str:
    return name.replace("_", " ")


def _plain(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {name: _interval(own) for name, own in figures.items()}


def _interval(interval: Any) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _settings_for(settings: Settings, made: "NewFuser") -> str:
    name = made.info.name
    base = settings.profile
    if name in profile_chain(base, settings)[:-1]:
        # Trained again while it is in use.
        base = settings.profiles[name].extends
    licence = made.info.licence
    lines = (
        f"profile = {_quoted(name)}",
        "",
        f"[models.{name}]",
        'implementation = "fuser"',
        f"path = {_quoted(str(made.folder))}",
        *([] if licence == UNKNOWN_LICENCE else [f"licence = {_quoted(licence)}"]),
        "",
        f"[profiles.{name}]",
        f"extends = {_quoted(base)}",
        f"models = {{ fuser = {_quoted(name)} }}",
    )
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """As a string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
