"""split: one file → shots with keyframes, 16 kHz sound, subtitle cues and pictures of such."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.media import SplitParams, split_media
from pipeline.media.windows import Scores, Windows
from pipeline.stages.base import Blob, Models, StageInputs, StageOutput, StageSpec
from schemas.records import CueSource, Keyframe


def run(inputs: StageInputs, params: SplitParams, models: Models) -> StageOutput:
    result = split_media(
        inputs.media(),
        info=inputs.info(),
        params=params,
        sidecars=inputs.sidecars(),
        work_dir=inputs.work_dir,
        limits=inputs.limits,
        scans=inputs.files("scan"),
        score=_scorer(models) if models.has("shots") else None,
    )
    blobs, keyframes = [], []
    for frame in result.keyframes:
        digest = _sha256(frame.path)
        blobs.append(Blob(name=None, path=frame.path, sha256=digest, media_type="image/jpeg"))
        keyframes.append(
            Keyframe(
                shot_index=frame.shot_index,
                keyframe_index=frame.keyframe_index,
                at_ms=frame.at_ms,
                pts=frame.pts,
                width_px=frame.width_px,
                height_px=frame.height_px,
                picture_index=frame.picture_index,
                phash=frame.phash,
                sha256=digest,
            )
        )
    if result.audio_path is not None:
        blobs.append(
            Blob(
                name="audio",
                path=result.audio_path,
                sha256=_sha256(result.audio_path),
                media_type="audio/flac",
            )
        )
    if result.cue_pictures_path is not None:
        blobs.append(
            Blob(
                name="cue_pictures",
                path=result.cue_pictures_path,
                sha256=_sha256(result.cue_pictures_path),
                media_type="application/x-safetensors",
            )
        )
    return StageOutput(
        records={
            "shots": result.shots,
            "keyframes": keyframes,
            "stretches": result.stretches,
            "sounds": () if result.sound is None else (result.sound,),
            "cue_sources": result.cue_sources,
            "cues": result.cues,
        },
        arrays={"subtitle_languages": _languages(result.cue_sources)},
        blobs=blobs,
        notes=result.notes,
        cpu_seconds=result.usage.by_kind(),
    )


def _languages(sources: Sequence[CueSource]) -> dict[str, np.ndarray]:
    """In which languages all that is said can be read: JSON, as bytes; nothing where in none.
    Small and sorted, so that another text of a sidecar changes nothing for who only asks this."""
    found = {s.language or "" for s in sources if s.cue_count and not s.is_forced}
    return {"json": np.frombuffer(json.dumps(sorted(found)).encode(), np.uint8)} if found else {}


def _scorer(models: Models) -> Callable[[Windows], Scores]:
    def score(windows: Windows) -> Scores:
        return np.stack(models.infer("shots", list(windows)))

    return score


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SPEC = StageSpec(
    name="split",
    queue="cpu",
    code_version=2,
    kinds=frozenset({"video", "image", "audio"}),
    inputs=("media", "sidecars", "scan"),
    outputs=(
        "shots",
        "keyframes",
        "stretches",
        "sounds",
        "cue_sources",
        "cues",
        "audio",
        "cue_pictures",
        "subtitle_languages",
    ),
    roles=("shots",),
    optional_roles=frozenset({"shots"}),
    params=SplitParams,
    run=run,
)
