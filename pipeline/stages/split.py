"""split: one file → shots with keyframes, 16 kHz sound and subtitle cues."""

import hashlib
from pathlib import Path

from pipeline.media import SplitParams, split_media
from pipeline.stages.base import Blob, Models, StageInputs, StageOutput, StageSpec
from schemas.records import Keyframe


def run(inputs: StageInputs, params: SplitParams, models: Models) -> StageOutput:
    result = split_media(
        inputs.media(),
        info=inputs.info(),
        params=params,
        sidecars=inputs.sidecars(),
        work_dir=inputs.work_dir,
        limits=inputs.limits,
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
    return StageOutput(
        records={"shots": result.shots, "keyframes": keyframes, "cues": result.cues},
        blobs=blobs,
        notes=result.notes,
        cpu_seconds=result.usage.by_kind(),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SPEC = StageSpec(
    name="split",
    queue="cpu",
    code_version=1,
    kinds=frozenset({"video", "image", "audio"}),
    inputs=("media", "sidecars"),
    outputs=("shots", "keyframes", "cues", "audio"),
    roles=(),
    params=SplitParams,
    run=run,
)
