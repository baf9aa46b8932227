"""The shots that a user has labelled, with their features as the fuse stage has them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from pipeline.db import queries, runs
from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.items import FusionItem
from pipeline.fusion.tokens import tokens_of
from pipeline.runner.inputs import RunInputs
from pipeline.runner.named_assets import assets_named
from pipeline.runner.runtime import Runtime
from pipeline.stages import fuse
from pipeline.training.labels import LabelledSpan, caption_of, labels_of
from schemas.records import Modality, Shot
from schemas.tables import asset, head, stage_run

#: By so much the end of a label may be rounded up.
_ROUNDING_MS = 1000
MODALITIES: tuple[Modality, ...] = ("visual", "audio", "text", "sound")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledShot:
    """``labels``: empty where somebody looked, and none holds. ``asset``: its sha256, which keeps
    shots of one asset on one side of a split."""

    asset: str
    uri: str
    shot: Shot
    item: FusionItem
    labels: frozenset[str]
    caption: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """``made_by``: whose features each modality's are, where any shot has them. ``notes``:
    sentences for a person, of what was left out or cut."""

    shots: Sequence[LabelledShot]
    made_by: Mapping[Modality, str]
    notes: Sequence[str]


def corrections(runtime: Runtime) -> list[LabelledSpan]:
    """What people's corrections say, as if it stood in a file: of each corrected asset every shot,
    with the tags that stand now, of those that were ever corrected.

    Raises:
        ConfigurationError: nobody has corrected anything, or no label is right anywhere.
    """
    with runtime.database.reading() as connection:
        rows = queries.corrected_shots(connection)
    if not any(row["label"] for row in rows):
        raise ConfigurationError(
            "the table correction says of no label that it is right, so there is nothing to learn "
            "from: correct some tags, or give --labels FILE"
        )
    return [
        LabelledSpan(
            # An asset is found by its id, too.
            uri=str(row["asset_id"]),
            start_ms=row["start_ms"],
            end_ms=row["end_ms"] if row["end_ms"] > row["start_ms"] else None,
            label=row["label"],
            line=number,
        )
        for number, row in enumerate(rows, start=1)
    ]


def collect(
    runtime: Runtime,
    spans: Sequence[LabelledSpan],
    *,
    skip_unknown: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Labelled:
    """The shots that ``spans`` speak for. Nothing is decoded again.

    ``skip_unknown``: leaves out what is not in the database, not analysed, or beyond the end of its
    asset, instead of refusing. ``on_progress``: assets done, of how many.

    Raises:
        ConfigurationError: an asset is not in the database or not fused yet, a label covers
            nothing, or assets were analysed by different models.
    """
    by_asset, unknown = _by_asset(runtime, spans)
    notes = []
    if unknown:
        if not skip_unknown:
            raise ConfigurationError(
                f"{_not_known(unknown)}: analyse them first, or say --skip-unknown"
            )
        notes.append(f"left out: {_not_known(unknown)}")
    shots: list[LabelledShot] = []
    makers: dict[Modality, dict[str, str]] = defaultdict(dict)
    ends_ms: dict[LabelledSpan, int] = {}
    used: set[LabelledSpan] = set()
    for done, (asset_id, own) in enumerate(sorted(by_asset.items())):
        on_progress(done, len(by_asset))
        found, made_by, end_ms = _shots(runtime, asset_id, own)
        shots += found
        ends_ms |= dict.fromkeys(own, end_ms)
        used.update(span for span in own if any(span.covers(each.shot) for each in found))
        for modality in {m for each in found for m in each.item.modalities}:
            makers[modality].setdefault(made_by[modality], own[0].uri)  # type: ignore[index]
    for modality, known in makers.items():
        if len(known) > 1:
            (one, here), (other, there) = list(known.items())[:2]
            raise ConfigurationError(
                f"the {modality} features of {here} were made by {one}, those of {there} by "
                f"{other}: reprocess them under one profile first"
            )
    notes += _misplaced(ends_ms, used, skip_unknown=skip_unknown)
    return Labelled(
        shots=shots,
        made_by={m: next(iter(makers[m])) for m in MODALITIES if m in makers},
        notes=notes,
    )


def _by_asset(
    runtime: Runtime, spans: Sequence[LabelledSpan]
) -> tuple[dict[int, list[LabelledSpan]], list[LabelledSpan]]:
    """Spans by the asset they are of, and those of none that was fused."""
    by_uri: dict[str, list[LabelledSpan]] = defaultdict(list)
    for span in spans:
        by_uri[span.uri].append(span)
    by_asset: dict[int, list[LabelledSpan]] = defaultdict(list)
    unknown = []
    with runtime.database.reading() as connection:
        for uri, own in by_uri.items():
            named, _ = assets_named(connection, uri)
            ids = [each for each in named if _fused(connection, each)]
            if not ids:
                unknown.append(own[0])
            for asset_id in ids:
                by_asset[asset_id] += own
    return by_asset, unknown


def _fused(connection: Connection, asset_id: int) -> int | None:
    """The run of this version that the asset's tags are from."""
    return connection.execute(
        select(head.c.stage_run_id)
        .join(stage_run, stage_run.c.id == head.c.stage_run_id)
        .where(
            head.c.asset_id == asset_id,
            head.c.stage == fuse.SPEC.name,
            stage_run.c.code_version == fuse.SPEC.code_version,
        )
    ).scalar()


def _not_known(unknown: Sequence[LabelledSpan]) -> str:
    first = unknown[0]
    return (
        f"{len(unknown)} of the labelled uris are not in the database, or not analysed to the "
        "end by this version; "
        f"the first is {first.uri} in line {first.line}"
    )


def _misplaced(
    ends_ms: Mapping[LabelledSpan, int], used: set[LabelledSpan], *, skip_unknown: bool
) -> Iterator[str]:
    """What to say of labels whose times cannot be meant so. ``ends_ms``: of their assets."""
    unused = [span for span in ends_ms if span not in used]
    if unused:
        sentence = (
            f"{len(unused)} of the labels cover no shot of their asset; the first is in line "
            f"{unused[0].line}: {unused[0].uri} ends at {ends_ms[unused[0]] / 1000:.3f} s"
        )
        if not skip_unknown:
            raise ConfigurationError(
                f"{sentence}: correct the times (seconds or HH:MM:SS), or say --skip-unknown"
            )
        yield f"left out: {sentence}"
    longer = [
        span
        for span, end_ms in ends_ms.items()
        if span in used and end_ms and (span.end_ms or 0) > end_ms + _ROUNDING_MS
    ]
    if longer:
        yield (
            f"{len(longer)} of the labels go beyond the end of their asset, and count up to there; "
            f"the first is in line {longer[0].line}: {longer[0].uri} ends at "
            f"{ends_ms[longer[0]] / 1000:.3f} s, and times are in seconds"
        )


def _shots(
    runtime: Runtime, asset_id: int, spans: Sequence[LabelledSpan]
) -> tuple[list[LabelledShot], Mapping[Modality, str], int]:
    """Those that the spans speak for, whose features they have, and where the last shot of all
    ends."""
    with runtime.database.reading() as connection:
        run_id = _fused(connection, asset_id)
        run = runs.read_run(connection, run_id or 0)
        sha256 = connection.execute(
            select(asset.c.sha256).where(asset.c.id == asset_id)
        ).scalar_one()
    with RunInputs(runtime, run, fuse.SPEC) as inputs:
        gathered = fuse.gather(inputs)
    languages = tuple(run.params.get("text_languages", ()))
    shots = [
        LabelledShot(
            asset=sha256,
            uri=spans[0].uri,
            shot=evidence.shot,
            item=tokens_of(evidence, MODALITIES, languages).item,
            labels=labels,
            caption=caption_of(evidence.shot, spans),
        )
        for evidence in gathered.evidence
        # A film may have one labelled shot and thousands of others.
        if (labels := labels_of(evidence.shot, spans)) is not None
    ]
    end_ms = max((evidence.shot.end_ms for evidence in gathered.evidence), default=0)
    made_by = fuse.feature_models(gathered, run.models["vision"], run.models["text"])
    return shots, made_by, end_ms
