"""The model card of a trained fuser: what it was trained on, and how good it is. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.fusion.neural.config import FuserConfig
from pipeline.training.data import PARTS, Split, TrainingSet, counts
from pipeline.training.metrics import Interval
from pipeline.training.options import TrainOptions

_TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "calibration_error": "expected calibration error",
    "mean_average_precision": "mean average precision of tags",
    "tag_calibration_error": "calibration error of tags",
}
_MOST_LABELS = 200

Figures = Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What training found out. ``without``: the test figures with a modality left out."""

    epochs: int
    best_epoch: int
    parameters: int
    calibrated: bool
    validation: Figures
    test: Figures
    without: Mapping[str, Figures]


def write_card(
    config: FuserConfig,
    data: TrainingSet,
    split: Split,
    options: TrainOptions,
    report: Report,
    digest: str,
) -> str:
    """Markdown, with a head that programs read."""
    head = {
        "license": data.licence,
        "library_name": "mediaweave",
        "tags": ["fusion", config.kind, *config.modality_names],
        "data_sha256": digest,
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---"]
    lines += [
        f"# A fuser of {_listed(config.modality_names)}",
        "",
        _origin(config, data, report),
        "",
        "## Data",
        "",
        _data_line(data, split, digest),
        "",
        *_label_lines(config, data, split),
        "## Figures",
        "",
        *_figure_lines(report),
        _calibration_line(report),
        "",
        "## Options",
        "",
        "```json",
        options.to_json(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _origin(config: FuserConfig, data: TrainingSet, report: Report) -> str:
    return (
        f"Kind {config.kind}, {report.parameters:,} parameters, trained by mediaweave on "
        f"{data.name} for {report.epochs} epochs, of which number {report.best_epoch} was kept."
    )


def _data_line(data: TrainingSet, split: Split, digest: str) -> str:
    sizes = ", ".join(f"{len(getattr(split, part)):,} {part}" for part in PARTS)
    return (
        f"Digest {digest}. Licence of the data: {data.licence}. Rows: {sizes}, of "
        f"{len(set(data.groups)):,} assets; split {split.origin}."
    )


def _label_lines(config: FuserConfig, data: TrainingSet, split: Split) -> list[str]:
    seen = counts(data, split.train)
    names = [f"tag {name}" for name in config.tags] + [f"class {name}" for name in config.classes]
    if not names:
        return []
    unseen = [name for name in names if not seen[name]]
    lines = ["| label | rows to train on |", "| --- | --- |"]
    lines += [f"| {_cell(name)} | {seen[name]:,} |" for name in names[:_MOST_LABELS]]
    if len(names) > _MOST_LABELS:
        lines.append(f"| and {len(names) - _MOST_LABELS:,} more | |")
    lines.append("")
    if unseen:
        lines += [
            f"Without an example in the training part, so never told: {_listed(unseen)}.",
            "",
        ]
    return lines


def _figure_lines(report: Report) -> list[str]:
    if not report.test:
        return ["The test part is empty, or has no labels: nothing was measured.", ""]
    missing = list(report.without)
    head = ["test part, 95 % intervals over assets", *(f"without {name}" for name in missing)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, interval in report.test.items():
        others = [str(figures.get(name, "")) for figures in report.without.values()]
        lines.append(f"| {_TITLES[name]}: {interval} | {' | '.join(others)} |")
    return [*lines, ""]


def _calibration_line(report: Report) -> str:
    if report.calibrated:
        return "Scores are calibrated on the validation part, for every choice of modalities."
    return "The validation part is empty: scores are not calibrated, and the last epoch was kept."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_LABELS])
    return f"{shown} and more" if len(names) > _MOST_LABELS else shown


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
