"""Light stages: the names, queues, inputs and outputs of the real ones, at hardly any cost.

What they make is a digest of all that they read, so every row says whether its inputs were right.
The ingest stays real: its child process opens real media. Models are named, never loaded.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from pipeline.plan import graph
from pipeline.stages.base import Blob, Models, StageInputs, StageOutput, StageSpec
from pipeline.storage.files import translate_write_error
from schemas.records import (
    Caption,
    Classification,
    Cue,
    Embedding,
    FloatArray,
    Keyframe,
    Shot,
    SoundEvent,
    Tag,
)

LABELS = ("anvil", "bell", "cask", "drum", "easel")
#: Told of where a stage is: its name, then ``start`` or ``middle``.
Watcher = Callable[[str, str], None]


def install(watcher: Watcher, versions: dict[str, int] | None = None) -> None:
    """Replace the stages of this process for good. ``versions``: other code versions, by stage."""
    stages: dict[str, StageSpec] = graph.STAGES  # type: ignore[assignment]
    for name, make in _MAKERS.items():
        spec = stages[name]
        version = (versions or {}).get(name, spec.code_version)
        stages[name] = replace(spec, code_version=version, run=_run(name, version, make, watcher))


def _run(
    name: str, version: int, make: "Callable[[StageInputs, Digest], StageOutput]", watcher: Watcher
) -> Callable[[StageInputs, Any, Models], StageOutput]:
    def run(inputs: StageInputs, params: Any, models: Models) -> StageOutput:
        watcher(name, "start")
        try:
            (inputs.work_dir / "begun").write_bytes(bytes(5000))
            output = make(inputs, Digest(name, version, params))
        except OSError as error:
            # As the real stages' child tells of a full disk.
            raise translate_write_error(error, inputs.work_dir) from error
        watcher(name, "middle")
        return output

    return run


class Digest:
    """Randomness that depends on everything that was put in, and on nothing else."""

    def __init__(self, *values: object) -> None:
        self._seed = hashlib.sha256(repr(values).encode()).digest()

    def of(self, *values: object) -> "Digest":
        return Digest(self._seed, values)

    def word(self, *values: object) -> str:
        return self.of(*values)._seed.hex()[:12]

    def number(self, below: int, *values: object) -> int:
        return int.from_bytes(self.of(*values)._seed[:4]) % below

    def vector(self, *values: object) -> FloatArray:
        raw = np.frombuffer(self.of(*values)._seed, np.uint8).astype(np.float32) - 127.5
        return (raw / np.linalg.norm(raw)).astype(np.float32)


def _split(inputs: StageInputs, digest: Digest) -> StageOutput:
    info = inputs.info()
    sidecars = [(file.name, file.path.read_bytes()) for file in inputs.sidecars()]
    digest = digest.of(inputs.media().read_bytes(), info, sidecars)
    count = 1 if info.kind == "image" else 1 + digest.number(3)
    end_ms = max(info.duration_ms or 0, count)
    shots, keyframes, blobs = [], [], []
    for index in range(count):
        shots.append(
            Shot(
                shot_index=index,
                start_ms=index * end_ms // count,
                end_ms=(index + 1) * end_ms // count,
            )
        )
        if info.kind == "audio":
            continue
        path = inputs.work_dir / f"keyframe-{index}.jpg"
        colour = tuple(digest.number(256, index, channel) for channel in range(3))
        PillowImage.new("RGB", (8, 8), colour).save(path)
        blobs.append(_blob(None, path, "image/jpeg"))
        keyframes.append(
            Keyframe(
                shot_index=index,
                keyframe_index=0,
                at_ms=shots[index].start_ms,
                pts=None,
                width_px=8,
                height_px=8,
                sha256=blobs[-1].sha256,
            )
        )
    if info.has_audio:
        blobs.append(_blob("audio", _flac(inputs.work_dir / "audio.flac", digest), "audio/flac"))
    cues = [
        Cue(origin="subtitle", start_ms=0, end_ms=end_ms, text=digest.word(name), sidecar=name)
        for name, _ in sidecars
    ]
    return StageOutput(
        records={"shots": shots, "keyframes": keyframes, "cues": cues},
        blobs=blobs,
        notes=[digest.word("note")],
    )


def _vision(inputs: StageInputs, digest: Digest) -> StageOutput:
    frames = inputs.keyframes()
    vectors = [digest.vector(inputs.image(frame).tobytes()) for frame in frames]
    arrays = {
        "shot_index": np.array([frame.shot_index for frame in frames], np.int64),
        "embedding": np.stack(vectors),
    }
    by_shot = dict(zip((frame.shot_index for frame in frames), vectors, strict=True))
    return StageOutput(
        records={
            "embeddings": [
                _embedding(shot, "light-vision", by_shot[shot.shot_index])
                for shot in inputs.shots()
            ]
        },
        arrays={"picture_features": arrays},
    )


def _ocr(inputs: StageInputs, digest: Digest) -> StageOutput:
    shots = {shot.shot_index: shot for shot in inputs.shots()}
    cues = [
        Cue(
            origin="ocr",
            start_ms=shots[frame.shot_index].start_ms,
            end_ms=shots[frame.shot_index].end_ms,
            text=digest.word(inputs.image(frame).tobytes()),
            confidence=0.5,
        )
        for frame in inputs.keyframes()
    ]
    return StageOutput(records={"cues": cues})


def _speech(inputs: StageInputs, digest: Digest) -> StageOutput:
    samples = inputs.audio()
    said = "silence" if samples is None else digest.word(samples.tobytes())
    cue = Cue(origin="speech", start_ms=0, end_ms=100, text=said, language="en", confidence=0.9)
    return StageOutput(records={"cues": [cue]})


def _safety(inputs: StageInputs, digest: Digest) -> StageOutput:
    frames = inputs.keyframes()
    return StageOutput(
        records={
            "classifications": [
                Classification(
                    shot_index=frame.shot_index,
                    taxonomy="light-safety",
                    class_name=LABELS[digest.number(len(LABELS), inputs.image(frame).tobytes())],
                    score=0.5,
                )
                for frame in frames
            ]
        }
    )


def _sound(inputs: StageInputs, digest: Digest) -> StageOutput:
    samples = inputs.audio()
    heard = b"" if samples is None else samples.tobytes()
    label = LABELS[digest.number(len(LABELS), heard)]
    event = SoundEvent(start_ms=0, end_ms=100, label=label, score=0.5)
    features = {"scores": digest.vector(heard)}
    return StageOutput(records={"sound_events": [event]}, arrays={"sound_features": features})


def _text(inputs: StageInputs, digest: Digest) -> StageOutput:
    vectors = [digest.vector(cue) for cue in inputs.cues()]
    return StageOutput(arrays={"cue_vectors": {"vectors": np.stack(vectors)} if vectors else {}})


def _fuse(inputs: StageInputs, digest: Digest) -> StageOutput:
    read = [
        sorted((key, array.tobytes()) for key, array in inputs.arrays(name).items())
        for name in ("picture_features", "cue_vectors")
    ]
    digest = digest.of(read, inputs.cues())
    shots = inputs.shots()
    return StageOutput(
        records={
            "tags": [
                Tag(
                    shot_index=shot.shot_index,
                    start_ms=shot.start_ms,
                    end_ms=shot.end_ms,
                    label=label,
                    score=digest.number(1000, shot, label) / 1000,
                    visual_score=0.25,
                )
                for shot in shots
                for label in LABELS
            ],
            "classifications": [
                Classification(
                    shot_index=shot.shot_index,
                    taxonomy="light",
                    class_name=LABELS[digest.number(len(LABELS), shot)],
                    score=0.75,
                )
                for shot in shots
            ],
            "embeddings": [_embedding(shot, "light-joint", digest.vector(shot)) for shot in shots],
        }
    )


def _caption(inputs: StageInputs, digest: Digest) -> StageOutput:
    digest = digest.of(inputs.tags(), inputs.cues())
    return StageOutput(
        records={
            "captions": [
                Caption(
                    shot_index=shot.shot_index,
                    start_ms=shot.start_ms,
                    end_ms=shot.end_ms,
                    text=digest.word(shot),
                    language="en",
                )
                for shot in inputs.shots()
            ]
        }
    )


_MAKERS: dict[str, Callable[[StageInputs, Digest], StageOutput]] = {
    "split": _split,
    "vision": _vision,
    "ocr": _ocr,
    "safety": _safety,
    "speech": _speech,
    "sound": _sound,
    "text": _text,
    "fuse": _fuse,
    "caption": _caption,
}


def _embedding(shot: Shot, space: str, vector: FloatArray) -> Embedding:
    return Embedding(
        shot_index=shot.shot_index,
        start_ms=shot.start_ms,
        end_ms=shot.end_ms,
        space=space,
        vector=vector,
    )


def _blob(name: Any, path: Path, media_type: str) -> Blob:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Blob(name=name, path=path, sha256=digest, media_type=media_type)


def _flac(path: Path, digest: Digest) -> Path:
    """A tenth of a second of mono 16 kHz sound."""
    import av

    samples: Sequence[int] = [digest.number(20000, n) - 10000 for n in range(16)] * 100
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.array([samples], np.int16), "s16", "mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path
