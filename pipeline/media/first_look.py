"""What only a decoded picture tells of its stream: how it lies, and how its colours are meant.

Runs in the child only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, cast

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.media.containers import readable_packets

Matrix = Literal["bt601", "bt709", "bt2020", "smpte240m"]
#: ``pq``: SMPTE ST 2084, ``hlg``: ARIB STD-B67, both of HDR.
Transfer = Literal["sdr", "pq", "hlg"]

#: Packets read in search of the first picture of a stream.
_FIRST_FRAME_PACKETS = 200
#: Anamorphic pixels beyond this are a damaged header.
_MAX_PIXEL_ASPECT = 4
#: A picture this high that states no matrix is meant as HD: what players do.
_HD_HEIGHT = 720
#: AVColorSpace and AVColorTransferCharacteristic of FFmpeg (ITU-T H.273).
_MATRICES: dict[int, Matrix] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How stored pixels become displayed ones: transpose first, then flip."""

    transpose: bool = False
    flip_horizontal: bool = False
    flip_vertical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLook:
    """What the first picture of a stream says; the defaults stand where none can be decoded."""

    orientation: Orientation = field(default_factory=Orientation)
    matrix: Matrix = "bt601"
    transfer: Transfer = "sdr"
    is_interlaced: bool = False


def first_looks(container: InputContainer, streams: Sequence[VideoStream]) -> dict[int, FirstLook]:
    """By stream index.

    Reads on from where the container is, so it comes last. A stream without an early frame counts
    as upright: whether anything can be decoded at all is for splitting to find out.
    """
    found: dict[int, FirstLook] = {}
    if not streams:
        return found
    for stream in streams:
        stream.codec_context.thread_count = 1
    for count, packet in enumerate(readable_packets(container, streams)):
        if packet.stream_index not in found:
            for frame in _decoded(packet):
                found[packet.stream_index] = _look(frame)
        if len(found) == len(streams) or count >= _FIRST_FRAME_PACKETS:
            break
    return {stream.index: found.get(stream.index, FirstLook()) for stream in streams}


def _decoded(packet: "Packet[Stream]") -> list[VideoFrame]:
    try:
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    except FFmpegError:
        # One damaged packet; a later one may decode.
        return []


def _look(frame: VideoFrame) -> FirstLook:
    unstated: Matrix = "bt709" if frame.height >= _HD_HEIGHT else "bt601"
    return FirstLook(
        orientation=_orientation(frame),
        matrix=_MATRICES.get(int(frame.colorspace), unstated),
        transfer=_TRANSFERS.get(int(frame.color_trc), "sdr"),
        is_interlaced=bool(frame.interlaced_frame),
    )


def _orientation(frame: VideoFrame) -> Orientation:
    # PyAV's stub names the element, not the container.
    for data in cast("SideDataContainer", frame.side_data):
        if data.type == SideDataType.DISPLAYMATRIX:
            return _from_matrix(bytes(data))
    return Orientation()


def _from_matrix(data: bytes) -> Orientation:
    a, b, _, c, d = (
        int.from_bytes(data[at : at + 4], "little", signed=True) for at in range(0, 20, 4)
    )
    # x' = a x + c y and y' = b x + d y, 16.16 fixed point.
    if abs(b) > abs(a):
        return Orientation(transpose=True, flip_horizontal=c < 0, flip_vertical=b < 0)
    return Orientation(flip_horizontal=a < 0, flip_vertical=d < 0)


def displayed_size(stream: VideoStream, orientation: Orientation) -> tuple[int, int]:
    """Width and height in pixels as displayed: square pixels, turned upright."""
    width, height = stored_size(stream)
    return (height, width) if orientation.transpose else (width, height)


def stored_size(stream: VideoStream) -> tuple[int, int]:
    """Width and height with square pixels, before turning."""
    width, height = max(1, stream.codec_context.width), max(1, stream.codec_context.height)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
        width = max(1, round(width * aspect))
    return width, height
