"""Subtitle files beside the media. Runs in the child only."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError

from pipeline.media.languages import is_forced_file_name, language_of_file_name
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line
from pipeline.media.progress import Progress
from pipeline.media.subtitles.bitmaps import BitmapReader
from pipeline.media.subtitles.encodings import decode_text
from pipeline.media.subtitles.packets import read_packets
from pipeline.media.subtitles.parsing import ParsedText, UnreadableSubtitleError, parse, sniff
from pipeline.media.subtitles.streams import SubtitleStream, subtitle_streams

_VOBSUB_INDEX = "# VobSub index file"
#: A program stream: the pictures that a VobSub index refers to.
_PROGRAM_STREAM = b"\0\0\1\xba"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A subtitle file by its name as submitted."""

    name: str
    path: Path

    @property
    def language(self) -> str | None:
        return language_of_file_name(self.name)

    @property
    def is_forced(self) -> bool:
        return is_forced_file_name(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarText:
    """What a sidecar of text holds; ``parsed`` is ``None`` where it cannot be parsed."""

    format: str
    encoding: str
    parsed: ParsedText | None


def read_bytes(sidecar: Sidecar, limits: MediaLimits, notes: list[str]) -> bytes:
    """As much as the limits allow; nothing of what cannot be read."""
    try:
        with sidecar.path.open("rb") as file:
            data = file.read(limits.max_sidecar_bytes + 1)
    except OSError as error:
        notes.append(f"sidecar {sidecar.name!r} cannot be read: {error.strerror}")
        return b""
    if len(data) > limits.max_sidecar_bytes and not data.startswith(_PROGRAM_STREAM):
        notes.append(
            f"sidecar {sidecar.name!r} is longer than {limits.max_sidecar_bytes} bytes; "
            "the rest is skipped"
        )
        data = data[: limits.max_sidecar_bytes]
    return data


def read_text(
    sidecar: Sidecar,
    data: bytes,
    limits: MediaLimits,
    notes: list[str],
    *,
    frame_rate: float | None,
) -> SidecarText | None:
    """``None``, with a note, where it is no subtitle file that is known here."""
    what = f"sidecar {sidecar.name!r}"
    text, encoding = decode_text(data, sidecar.language)
    form = sniff(text)
    if form is None:
        notes.append(f"{what} is in no known subtitle format and was skipped")
        return None
    try:
        parsed = parse(text, form, limits, frame_rate=frame_rate)
    except UnreadableSubtitleError as error:
        notes.append(f"{what} cannot be parsed: {error}")
        return SidecarText(format=form, encoding=encoding, parsed=None)
    return SidecarText(format=form, encoding=encoding, parsed=parsed)


def is_pictures_of(data: bytes) -> bool:
    """Whether it is the ``.sub`` of a VobSub pair, which is read with its ``.idx``."""
    return data.startswith(_PROGRAM_STREAM)


def is_vobsub_index(data: bytes) -> bool:
    """Whether it is the ``.idx`` of a VobSub pair."""
    return data.lstrip(b"\xef\xbb\xbf").startswith(_VOBSUB_INDEX.encode())


def read_vobsub(
    index: Sidecar,
    sidecars: Sequence[Sidecar],
    limits: MediaLimits,
    notes: list[str],
    progress: Progress,
) -> list[tuple[SubtitleStream, BitmapReader]]:
    """The streams of a VobSub pair; none, with a note, where the pair cannot be read."""
    stem = index.name.rpartition(".")[0]
    partner = next((s for s in sidecars if s.name.lower() == f"{stem}.sub".lower()), None)
    if partner is None:
        notes.append(f"sidecar {index.name!r} stands without its .sub file and was skipped")
        return []
    local = Path("vobsub.idx")
    try:
        for path, target in ((local, index.path), (local.with_suffix(".sub"), partner.path)):
            # FFmpeg wants the pair by these names, and the sandbox makes no links.
            shutil.copyfile(target, path)
        with av.open(
            f"file:{local}",
            format="vobsub",
            metadata_errors="replace",
            container_options={"protocol_whitelist": "file", "format_whitelist": "vobsub,mpeg"},
        ) as container:
            streams = subtitle_streams(container)
            readers = read_packets(
                container,
                streams,
                video_index=None,
                start=Fraction(0),
                limits=limits,
                progress=progress,
            )
    except (FFmpegError, EOFError, ValueError, FileNotFoundError, PermissionError) as error:
        notes.append(f"sidecar {index.name!r} cannot be read: {one_line(error)}")
        return []
    found = [(stream, readers[stream.index]) for stream in streams]
    return [(stream, reader) for stream, reader in found if isinstance(reader, BitmapReader)]
