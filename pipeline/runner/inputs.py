"""Reads what a stage declared as its inputs: rows from the database, files from the stores."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from safetensors.numpy import load as load_arrays
from sqlalchemy import select

from pipeline.db import results, runs
from pipeline.errors import ContractError
from pipeline.media import SidecarFile, load_audio, load_image
from pipeline.runner.runtime import Runtime
from pipeline.stages.base import OutputName, StageSpec
from schemas.records import (
    Cue,
    CueSource,
    FloatArray,
    Image,
    Keyframe,
    MediaInfo,
    Shot,
    SoundEvent,
    StreamRecord,
    Tag,
)
from schemas.tables import asset, stream


class RunInputs:
    """The inputs of one stage run; implements :class:`pipeline.stages.base.StageInputs`.

    Used as a context manager: the fetched media and the work folder are given back at the end.
    """

    def __init__(self, runtime: Runtime, run: runs.StageRun, spec: StageSpec) -> None:
        if run.asset_id is None:
            raise ContractError(f"stage run {run.stage_run_id} of {run.stage} names no asset")
        self.limits = runtime.limits
        self._runtime = runtime
        self._run = run
        self._spec = spec
        self.asset_id = run.asset_id
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @cached_property
    def work_dir(self) -> Path:
        # Made when it is first asked for: many stages need none.
        return self._stack.enter_context(self._runtime.scratch.temporary_folder())

    def info(self) -> MediaInfo:
        with self._runtime.database.reading() as connection:
            facts = connection.execute(select(asset).where(asset.c.id == self.asset_id)).one()
            query = (
                select(stream)
                .where(stream.c.asset_id == self.asset_id)
                .order_by(stream.c.stream_index)
            )
            streams = [
                StreamRecord(**{k: v for k, v in row._mapping.items() if k != "asset_id"})
                for row in connection.execute(query)
            ]
        return MediaInfo(
            kind=facts.kind,
            container=facts.container,
            duration_ms=facts.duration_ms,
            width_px=facts.width_px,
            height_px=facts.height_px,
            frame_rate=facts.frame_rate,
            streams=tuple(streams),
        )

    def media(self) -> Path:
        self._declared("media")
        return self._stack.enter_context(fetched_media(self._runtime, self.asset_id, self.work_dir))

    def sidecars(self) -> Sequence[SidecarFile]:
        self._declared("sidecars")
        return [
            SidecarFile(
                path=self._runtime.artifacts.local_path(entry["sha256"]), name=entry["name"]
            )
            for entry in self._run.inputs["sidecars"]
        ]

    def shots(self) -> Sequence[Shot]:
        return self._rows("shots", results.read_shots)

    def keyframes(self) -> Sequence[Keyframe]:
        return self._rows("keyframes", results.read_keyframes)

    def image(self, keyframe: Keyframe) -> Image:
        return load_image(self._runtime.artifacts.local_path(keyframe.sha256))

    def audio(self) -> FloatArray | None:
        self._declared("audio")
        digest = self._artifacts.get("audio")
        return load_audio(self._runtime.artifacts.local_path(digest)) if digest else None

    def cues(self) -> Sequence[Cue]:
        found = self._rows("cues", results.read_cues)
        return sorted(found, key=lambda cue: (cue.start_ms, cue.end_ms, cue.origin, cue.text))

    def cue_sources(self) -> Sequence[CueSource]:
        return self._rows("cue_sources", results.read_cue_sources)

    def tags(self) -> Sequence[Tag]:
        return self._rows("tags", results.read_tags)

    def sound_events(self) -> Sequence[SoundEvent]:
        return self._rows("sound_events", results.read_sound_events)

    def files(self, name: OutputName) -> Sequence[Path]:
        self._declared(name)
        runs_by_stage = [self._run.input_runs[stage] for stage in sorted(self._run.inputs[name])]
        with self._runtime.database.reading() as connection:
            digests = [results.artifacts_of(connection, [run])[name] for run in runs_by_stage]
        return [self._runtime.artifacts.local_path(digest) for digest in digests]

    def arrays(self, name: OutputName) -> Mapping[str, Any]:
        self._declared(name)
        digest = self._artifacts.get(name)
        return load_arrays(self._runtime.artifacts.read_bytes(digest)) if digest else {}

    @cached_property
    def _artifacts(self) -> Mapping[str, str]:
        with self._runtime.database.reading() as connection:
            return results.artifacts_of(connection, list(self._run.input_runs.values()))

    def _rows(self, name: OutputName, read: Any) -> list[Any]:
        self._declared(name)
        # Stages before this one that make such rows, in a fixed order.
        makers = sorted(self._run.inputs[name])
        with self._runtime.database.reading() as connection:
            return [
                row for maker in makers for row in read(connection, self._run.input_runs[maker])
            ]

    def _declared(self, name: str) -> None:
        if name not in self._spec.inputs:
            raise ContractError(
                f"stage {self._spec.name} reads {name!r}, which it does not declare"
            )


@contextmanager
def fetched_media(runtime: Runtime, asset_id: int, work_dir: Path) -> Iterator[Path]:
    """A local path of the asset's bytes: from the scratch space, or from wherever it was seen.

    Raises:
        ObjectNotFoundError: no place holds these bytes any more.
    """
    with runtime.database.reading() as connection:
        sha256 = connection.execute(
            select(asset.c.sha256).where(asset.c.id == asset_id)
        ).scalar_one()
        places = results.locations_of(connection, asset_id)
    with runtime.fetcher.of_content(sha256, places, work_dir) as path:
        yield path
