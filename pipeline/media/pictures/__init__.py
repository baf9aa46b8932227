"""Pictures and animated pictures, opened with Pillow (HEIC and JPEG XL through ffmpeg, RAW through
rawpy). Runs in the child only."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from pipeline.errors import InvalidMediaError, MediaLimitError
from pipeline.media import ffmpeg_process
from pipeline.media.likeness import THUMBNAIL_SHAPE, DistinctPictures
from pipeline.media.limits import MediaLimits
from pipeline.media.messages import one_line
from pipeline.media.params import SplitParams
from pipeline.media.pictures.chunks import may_move
from pipeline.media.pictures.opening import DAMAGE, OpenedPicture, open_picture, pages
from pipeline.media.pictures.rendering import render
from pipeline.media.progress import Progress
from pipeline.media.sniff import ANIMATED_FORMATS

_AREA = PillowImage.Resampling.BOX
_SIDEWAYS = {5, 6, 7, 8}


def probe(picture_format: str, *, limits: MediaLimits, ffmpeg: str) -> dict[str, Any]:
    """The fields of a :class:`~schemas.records.MediaInfo`; a picture that moves is a video.

    Reads headers only, except where ffmpeg is the decoder. Width and height are as displayed.
    """
    if picture_format in ANIMATED_FORMATS and may_move(picture_format, Path("input")):
        from pipeline.media.pictures import animation

        info = animation.probe(picture_format, limits)
        if info is not None:
            return info
    with open_picture(picture_format, limits, ffmpeg) as opened:
        width, height = opened.full_size or opened.image.size
        if opened.orientation in _SIDEWAYS:
            width, height = height, width
    codec = opened.picture_format.lower()
    return {
        "kind": "image",
        "container": codec,
        "duration_ms": None,
        "width_px": width,
        "height_px": height,
        "frame_rate": None,
        "streams": [
            {
                "stream_index": 0,
                "kind": "video",
                "codec": codec,
                "is_default": True,
                "width_px": width,
                "height_px": height,
            }
        ],
    }


def split(
    picture_format: str,
    *,
    params: SplitParams,
    limits: MediaLimits,
    ffmpeg: str,
    progress: Progress,
    startup_cpu_seconds: float,
) -> dict[str, Any]:
    """One shot without length with a keyframe per page: upright, sRGB, on white.

    ``keyframe_index`` is the page's number; a later page that cannot be read is left out.
    """
    before = time.process_time() + ffmpeg_process.decoder_cpu_seconds()
    keyframes = []
    distinct = DistinctPictures()
    with open_picture(picture_format, limits, ffmpeg) as opened:
        for number in pages(opened, limits):
            keyframe = _page(opened, number, params, limits)
            progress.tick()
            if keyframe is not None:
                keyframes.append(_write(keyframe, number, distinct, params))
    return {
        "shots": [{"shot_index": 0, "start_ms": 0, "end_ms": 0, "starts_with": "start"}],
        "keyframes": keyframes,
        "stretches": [],
        "audio": None,
        "sound": None,
        "cue_sources": [],
        "cues": [],
        "cue_pictures": None,
        "device_failure": None,
        "notes": opened.notes,
        "decoder_cpu_seconds": time.process_time() + ffmpeg_process.decoder_cpu_seconds() - before,
        "startup_cpu_seconds": startup_cpu_seconds,
    }


def _page(
    opened: OpenedPicture, number: int, params: SplitParams, limits: MediaLimits
) -> PillowImage.Image | None:
    try:
        return render(opened, params.keyframe_max_side_px, limits)
    except (MediaLimitError, *DAMAGE) as error:
        if number == 0 and isinstance(error, MediaLimitError):
            raise
        if number == 0:
            raise InvalidMediaError(
                f"the {opened.picture_format} picture is damaged or cut off: {one_line(error)}"
            ) from error
        opened.notes.append(f"page {number} cannot be read and was left out: {one_line(error)}")
        return None


def _write(
    keyframe: PillowImage.Image, number: int, distinct: DistinctPictures, params: SplitParams
) -> dict[str, Any]:
    rows, columns = THUMBNAIL_SHAPE
    thumbnail = np.asarray(keyframe.convert("L").resize((columns, rows), _AREA))
    picture_index, phash = distinct.number(thumbnail)
    name = f"keyframe-{number:06d}.jpg"
    keyframe.save(name, "JPEG", quality=params.jpeg_quality)
    return {
        "shot_index": 0,
        "keyframe_index": number,
        "at_ms": 0,
        "pts": None,
        "width_px": keyframe.width,
        "height_px": keyframe.height,
        "picture_index": picture_index,
        "phash": phash,
        "name": name,
    }
