"""Where the pictures of made clips come from: photographs, and real clips without a cut in them.

Two halves share no source: what is tuned on the one is reported on the other.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Half = Literal["tune", "report"]
HALVES: tuple[Half, Half] = ("tune", "report")

#: Beside the repository; not part of it.
SHARED = Path(__file__).resolve().parents[3] / "shared" / "media"
#: Of made clips: what PySceneDetect scales to by default, so that it works at its best size.
WIDTH, HEIGHT = 256, 144
_PHOTO_SIZE = (640, 360)
_MOST_PHOTOS = 40

#: Stretches without a cut, by eye: file, first frame, end frame.
_TAKES: dict[Half, tuple[tuple[str, int, int], ...]] = {
    "tune": (
        ("video/cockatoo_yuv444_mp3.mp4", 0, 280),
        ("video/dog_man_bed.mp4", 0, 149),
        ("video/bikes_cuts.mp4", 30, 76),
        ("video/bikes_cuts.mp4", 137, 187),
        ("video/counting_hand_en.mp4", 0, 245),
        ("video/nasa_multistream.mp4", 0, 134),
        ("video/bbb_vp9_642sq.webm", 6, 90),
    ),
    "report": (
        ("video/pancake_opus.mkv", 0, 310),
        ("video/hdr10_av1_portrait.mp4", 0, 127),
        ("video/bikes_cuts.mp4", 76, 137),
        ("video/bikes_cuts.mp4", 187, 242),
        ("video/nasa_multistream.mp4", 202, 325),
        ("video/vp9_10bit_roadtrip.webm", 0, 42),
        ("video_spliced/cuts8_h264_25.mp4", 0, 50),
        ("video_spliced/cuts8_h264_25.mp4", 88, 150),
        ("video_spliced/cuts8_h264_25.mp4", 265, 298),
        ("video_spliced/cuts8_h264_25.mp4", 353, 413),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Photographs (640×360) and takes (lists of 256×144 frames), uint8 HWC BGR."""

    photos: list[Pixels] = field(default_factory=list)
    takes: list[list[Pixels]] = field(default_factory=list)


def load_sources(half: Half, demo_samples: Path) -> Sources:
    """From the shared media where they are, else from the demo's samples (far fewer)."""
    if SHARED.is_dir():
        photos = sorted(
            path
            for folder in ("image/imagenet", "image/coco")
            for path in (SHARED / folder).iterdir()
            if path.suffix.lower() in {".jpg", ".jpeg"}
        )
        takes = [_frames(SHARED / name, first, end) for name, first, end in _TAKES[half]]
    else:
        photos = sorted([*demo_samples.glob("*.png"), *demo_samples.glob("*.jpg")])
        whole = _frames(demo_samples / "world.mp4", 0, 150)
        takes = [whole[:75] if half == "tune" else whole[75:]]
    mine = photos[HALVES.index(half) :: 2]
    step = max(1, len(mine) // _MOST_PHOTOS)
    return Sources(photos=[_photo(path) for path in mine[::step]][:_MOST_PHOTOS], takes=takes)


def annotated_clips() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Real and spliced files with known shots, and their annotation; none without the media."""
    manifest = SHARED / "manifest.json"
    if not manifest.is_file():
        return
    files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    for entry in sorted(files, key=lambda one: str(one["file"])):
        shots = (entry.get("ground_truth") or {}).get("shots")
        if isinstance(shots, dict):
            yield SHARED / entry["file"], shots


def _frames(path: Path, first: int, end: int) -> list[Pixels]:
    frames: list[Pixels] = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= end:
                break
            if index >= first:
                small = frame.reformat(
                    width=WIDTH, height=HEIGHT, format="bgr24", interpolation="AREA"
                )
                frames.append(np.asarray(small.to_ndarray(), np.uint8))
    return frames


def _photo(path: Path) -> Pixels:
    """The largest centred part of 16:9, scaled."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{path} is no photograph that OpenCV can read")
    height, width = picture.shape[:2]
    wide, high = min(width, height * 16 // 9), min(height, width * 9 // 16)
    left, top = (width - wide) // 2, (height - high) // 2
    cropped = picture[top : top + high, left : left + wide]
    return np.asarray(cv2.resize(cropped, _PHOTO_SIZE, interpolation=cv2.INTER_AREA), np.uint8)
