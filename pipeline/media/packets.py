"""What packets say where headers say nothing, or too much. Runs in the child only.

Nothing is decoded; each question opens the file anew.
"""

from collections.abc import Iterator
from fractions import Fraction

from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from pipeline.media.containers import open_container, readable_packets
from pipeline.media.limits import MediaLimits

#: Above this a frame rate is the time base's, not the pictures'.
_MAX_FRAME_RATE = 300
#: Frames whose mean distance tells the rate of a stream that states none.
_RATE_FRAMES = 250
#: Packets come in order of decoding: so many more hold all frames up to there.
_REORDERED = 16


def seconds_by_packets(limits: MediaLimits) -> Fraction | None:
    """How far the packets' own times reach: for headers that state nothing, or too much."""
    first: Fraction | None = None
    last: Fraction | None = None
    with open_container(limits) as container:
        streams = [s for s in container.streams if s.type in {"video", "audio"}]
        for packet in readable_packets(container, streams):
            if packet.pts is None or packet.time_base is None:
                continue
            start = packet.pts * packet.time_base
            end = start + (packet.duration or 0) * packet.time_base
            first = start if first is None else min(first, start)
            last = end if last is None else max(last, end)
    return None if first is None or last is None else last - first


def frame_rate(stream: VideoStream, limits: MediaLimits) -> float | None:
    """Frames per second: as stated, or where that is absurd as the first packets come."""
    if stream.average_rate and 0 < stream.average_rate <= _MAX_FRAME_RATE:
        return float(stream.average_rate)
    times: list[int] = []
    with open_container(limits) as container:
        same = container.streams[stream.index]
        for packet in readable_packets(container, [same]):
            if packet.pts is not None and not packet.is_discard:
                times.append(packet.pts)
            if len(times) >= _RATE_FRAMES + _REORDERED:
                break
        times = sorted(times)[:_RATE_FRAMES]
        span = (times[-1] - times[0]) * (same.time_base or 0) if times else 0
    measured = (len(times) - 1) / span if span else 0
    for rate in (measured, stream.guessed_rate):
        if rate and 0 < rate <= _MAX_FRAME_RATE:
            return float(rate)
    return None


def end_of_frames(
    limits: MediaLimits, stream_index: int, since_pts: int, *, also_later: bool
) -> int | None:
    """Where the frame of this PTS ends by its packet, or the last one from it on (``also_later``);
    ``None`` where no packet tells."""
    return max(
        (
            packet.pts + packet.duration
            for packet in _packets_around(limits, stream_index, since_pts)
            if packet.pts is not None
            and packet.duration
            and (packet.pts == since_pts or (also_later and packet.pts > since_pts))
        ),
        default=None,
    )


def next_frame(limits: MediaLimits, stream_index: int, since_pts: int) -> int | None:
    """PTS of the frame after the one of this PTS, by the packets; ``None`` where there is none."""
    later = []
    for packet in _packets_around(limits, stream_index, since_pts):
        if packet.pts is not None and packet.pts > since_pts and not packet.is_discard:
            later.append(packet.pts)
        if len(later) > _REORDERED:
            break
    return min(later, default=None)


def _packets_around(limits: MediaLimits, stream_index: int, pts: int) -> Iterator["Packet[Stream]"]:
    """From the sync frame before a PTS to the end; none where that cannot be found."""
    with open_container(limits) as container:
        stream = container.streams[stream_index]
        try:
            container.seek(pts, stream=stream)
        except FFmpegError:
            return
        yield from readable_packets(container, [stream])
