"""Probing and splitting, as the rest of mediaweave sees them: the parent's side."""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import (
    ConfigurationError,
    ContractError,
    InvalidMediaError,
    ObjectNotFoundError,
)
from pipeline.media import hardware
from pipeline.media.ffmpeg_binary import find_ffmpeg
from pipeline.media.launcher import run_child
from pipeline.media.limits import MediaLimits
from pipeline.media.params import SplitParams
from pipeline.media.results import (
    ChildUsage,
    KeyframeFile,
    ProbeResult,
    ScanResult,
    SidecarFile,
    SplitResult,
)
from pipeline.media.windows import Scores, Windows, WindowServer
from schemas.records import Cue, CueSource, MediaInfo, Shot, Sound, Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProbeReply:
    info: MediaInfo
    startup_cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyframeReply:
    shot_index: int
    keyframe_index: int
    at_ms: int
    pts: int | None
    width_px: int
    height_px: int
    picture_index: int
    phash: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _SplitReply:
    shots: tuple[Shot, ...]
    keyframes: tuple[_KeyframeReply, ...]
    stretches: tuple[Stretch, ...]
    audio: str | None
    sound: Sound | None
    cue_sources: tuple[CueSource, ...]
    cues: tuple[Cue, ...]
    cue_pictures: str | None
    device_failure: str | None
    notes: tuple[str, ...]
    decoder_cpu_seconds: float
    startup_cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScanReply:
    scan: str
    device_failure: str | None
    notes: tuple[str, ...]
    decoder_cpu_seconds: float
    startup_cpu_seconds: float


log = structlog.get_logger()

_ReplyT = TypeVar("_ReplyT")
_OUTPUT_NAME = re.compile(
    r"audio\.flac|cue-pictures\.safetensors|keyframe-\d{6,}\.jpg|scan\.safetensors"
)
_PROBE_REPLY = TypeAdapter(_ProbeReply)
_SCAN_REPLY = TypeAdapter(_ScanReply)
_SPLIT_REPLY = TypeAdapter(_SplitReply)


def probe_media(path: Path, *, work_dir: Path, limits: MediaLimits) -> ProbeResult:
    """What the file is, by its content, from its headers. Blocks; safe on untrusted files.

    ``work_dir`` must exist; nothing is left there.

    Raises:
        ObjectNotFoundError: there is no such file.
        InvalidMediaError: it is empty, damaged, or not media (``UnsupportedMediaError``), or
            beyond the limits (``MediaLimitError``).
        ResourceExhaustedError: reading the headers took too much time or memory.
    """
    _check_file(path)
    request = _request("probe", path, limits) | {"cpu_seconds": limits.probe_seconds}
    with tempfile.TemporaryDirectory(prefix="probe-", dir=work_dir) as folder:
        data, cpu_seconds = run_child(
            request, work_dir=Path(folder), limits=limits, wall_seconds=limits.probe_seconds
        )
    reply = _validated(_PROBE_REPLY, data)
    return ProbeResult(
        info=reply.info,
        usage=ChildUsage(
            cpu_seconds=cpu_seconds,
            decoder_cpu_seconds=0.0,
            startup_cpu_seconds=reply.startup_cpu_seconds,
        ),
    )


def split_media(
    path: Path,
    *,
    info: MediaInfo,
    params: SplitParams,
    sidecars: Sequence[SidecarFile],
    work_dir: Path,
    limits: MediaLimits,
    scans: Sequence[Path] = (),
    score: Callable[[Windows], Scores] | None = None,
) -> SplitResult:
    """Shots, keyframes, sound and cues of the file, decoded once. Blocks; safe on untrusted files.

    ``info`` is what :func:`probe_media` said of the same file. ``scans``: the files that
    :func:`scan_media` made of all its ranges with the same parameters, in order: the picture is
    then not decoded again, and the result is the same. ``score``: the model that finds shots, where
    the parameters want one; called in a thread of its own, as
    :class:`~pipeline.media.windows.WindowServer` has it. The files named in the result are
    in ``work_dir``, which must exist; nothing else is left there, nor anything after an error.

    A file whose decoder reports errors and that holds less than 95 % of its stated duration counts
    as truncated; with more, or without errors, it is used as far as it goes, with a note. A broken
    sidecar is a note, never an error.

    Raises:
        ObjectNotFoundError: there is no such file.
        InvalidMediaError: nothing can be decoded, or the file is truncated.
        MediaLimitError: it has too many pixels, or lasts too long.
        ResourceExhaustedError: it took too much time, memory or disk.
    """
    _check_file(path)
    request = _decoding_request("split", path, info, params, limits) | {
        "scans": [os.path.abspath(scan) for scan in scans],
        "sidecars": [
            {"path": os.path.abspath(sidecar.path), "name": sidecar.name} for sidecar in sidecars
        ],
    }
    if params.shot_detector != "content" and score is None and info.kind == "video":
        raise ConfigurationError(
            f"split.shot_detector is {params.shot_detector}, but the profile names no model for "
            "'shots': add one, for example models.shots = \"transnetv2\""
        )
    wants_model = params.shot_detector != "content" and info.kind == "video"
    server = WindowServer(score) if score is not None and wants_model else None
    scratch = Path(tempfile.mkdtemp(prefix="split-", dir=work_dir))
    try:
        data, cpu_seconds = run_child(
            request,
            work_dir=scratch,
            limits=limits,
            wall_seconds=limits.wall_seconds,
            server=server,
        )
        reply = _validated(_SPLIT_REPLY, data)
        _check_shots(reply)
        return SplitResult(
            shots=reply.shots,
            keyframes=tuple(_adopt_keyframe(k, scratch, work_dir) for k in reply.keyframes),
            audio_path=None if reply.audio is None else _adopt(reply.audio, scratch, work_dir),
            stretches=reply.stretches,
            sound=reply.sound,
            cue_sources=reply.cue_sources,
            cues=reply.cues,
            cue_pictures_path=None
            if reply.cue_pictures is None
            else _adopt(reply.cue_pictures, scratch, work_dir),
            usage=_usage(reply, cpu_seconds),
            notes=reply.notes,
        )
    finally:
        shutil.rmtree(scratch)


def scan_media(
    path: Path,
    *,
    info: MediaInfo,
    params: SplitParams,
    index: int,
    count: int,
    work_dir: Path,
    limits: MediaLimits,
) -> ScanResult:
    """The picture of range ``index`` of ``count`` (:func:`pipeline.media.ranges.count_ranges`).
    Blocks; safe on untrusted files.

    Raises as :func:`split_media` does; a range without a frame is no error here.
    """
    _check_file(path)
    request = _decoding_request("scan", path, info, params, limits)
    request |= {"index": index, "count": count, "sidecars": []}
    scratch = Path(tempfile.mkdtemp(prefix="scan-", dir=work_dir))
    try:
        data, cpu_seconds = run_child(
            request, work_dir=scratch, limits=limits, wall_seconds=limits.wall_seconds
        )
        reply = _validated(_SCAN_REPLY, data)
        return ScanResult(
            path=_adopt(reply.scan, scratch, work_dir),
            usage=_usage(reply, cpu_seconds),
            notes=reply.notes,
        )
    finally:
        shutil.rmtree(scratch)


def _usage(reply: _ScanReply | _SplitReply, cpu_seconds: float) -> ChildUsage:
    if reply.device_failure is not None:
        log.warning("decoded_without_device", reason=reply.device_failure)
    return ChildUsage(
        cpu_seconds=cpu_seconds,
        decoder_cpu_seconds=reply.decoder_cpu_seconds,
        startup_cpu_seconds=reply.startup_cpu_seconds,
    )


def _decoding_request(
    task: str, path: Path, info: MediaInfo, params: SplitParams, limits: MediaLimits
) -> dict[str, Any]:
    return _request(task, path, limits) | {
        "cpu_seconds": limits.cpu_seconds,
        "kind": info.kind,
        "duration_ms": info.duration_ms,
        "params": asdict(params),
        "with_device": info.kind == "video" and limits.hardware_decoding and hardware.has_cuda(),
    }


def _request(task: str, path: Path, limits: MediaLimits) -> dict[str, Any]:
    return {
        "task": task,
        "input": os.path.abspath(path),
        "ffmpeg": str(find_ffmpeg()),
        "limits": asdict(limits),
    }


def _check_file(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise ObjectNotFoundError(f"there is no file {str(path)!r}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidMediaError(f"{str(path)!r} is not a regular file")
    if found.st_size == 0:
        raise InvalidMediaError("the file is empty")


def _validated(adapter: TypeAdapter[_ReplyT], reply: bytes) -> _ReplyT:
    """A child that met hostile media is not believed either."""
    try:
        return adapter.validate_json(reply)
    except ValidationError as error:
        raise ContractError(
            f"the media child's reply is malformed: {error.error_count()} errors in {reply[:200]!r}"
        ) from error


def _check_shots(reply: _SplitReply) -> None:
    at_ms = 0
    for index, shot in enumerate(reply.shots):
        if shot.shot_index != index or shot.start_ms != at_ms or shot.end_ms < at_ms:
            raise ContractError(f"shot {index} does not follow the one before: {shot}")
        at_ms = shot.end_ms
    strays = [k.shot_index for k in reply.keyframes if not 0 <= k.shot_index < len(reply.shots)]
    if not reply.shots or strays:
        raise ContractError(f"{len(reply.shots)} shots, keyframes of shots {strays}")


def _adopt(name: str, scratch: Path, work_dir: Path) -> Path:
    """Move a file that the child wrote out of its directory. Only plain files, by plain names."""
    written = scratch / name
    if not _OUTPUT_NAME.fullmatch(name) or not stat.S_ISREG(written.lstat().st_mode):
        raise ContractError(f"the media child names an output {name!r} that is not one")
    return written.replace(work_dir / name)


def _adopt_keyframe(reply: _KeyframeReply, scratch: Path, work_dir: Path) -> KeyframeFile:
    return KeyframeFile(
        shot_index=reply.shot_index,
        keyframe_index=reply.keyframe_index,
        at_ms=reply.at_ms,
        pts=reply.pts,
        width_px=reply.width_px,
        height_px=reply.height_px,
        picture_index=reply.picture_index,
        phash=reply.phash,
        path=_adopt(reply.name, scratch, work_dir),
    )
