"""What others pay for the same: OpenCV that reads every frame, and ffmpeg in several passes."""

import sys

from bench.figures import Figure
from bench.split.media import BenchMedia
from bench.split.runs import Took, decode, ffmpeg, probe, run, scratch, split
from pipeline.media import SplitParams

_READ_ALL = """
import sys
import cv2
cv2.setNumThreads(1)
video = cv2.VideoCapture(sys.argv[1])
while video.read()[0]:
    pass
"""


def measure(media: BenchMedia) -> list[Figure]:
    path = media.h264_1080p
    plain = decode(path, "-threads", "1")
    one_thread = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "threads;1"}
    opencv = run([sys.executable, "-c", _READ_ALL, path], one_thread)
    with scratch() as folder:
        source = ("-threads", "1", "-i", path)
        small = "scale=64:36:flags=area,format=bgr24"
        keyframes = "fps=5,scale=1280:720:flags=area"
        sound = ("-vn", "-ac", "1", "-ar", "16000", folder / "sound.flac")
        passes = [
            ffmpeg(*source, "-an", "-vf", small, "-f", "rawvideo", "/dev/null"),
            ffmpeg(*source, "-an", "-vf", keyframes, "-f", "rawvideo", "/dev/null"),
            ffmpeg(*source, *sound),
        ]
    with scratch() as folder:
        ours, _ = split(path, probe(path), folder, SplitParams())
    several = Took(
        cpu_seconds=sum(one.cpu_seconds for one in passes),
        wall_seconds=sum(one.wall_seconds for one in passes),
    )
    others = {
        "OpenCV reads every frame (no sound, nothing found)": opencv,
        "ffmpeg in three passes (small frames, pictures, sound; nothing found)": several,
    }
    return [
        Figure(
            name=f"CPU of {name} / of splitting",
            asked="",
            seen=took.cpu_seconds / ours.cpu_seconds,
            met=True,
            notes=[
                f"{took.cpu_seconds:.1f} / {ours.cpu_seconds:.1f} CPU s",
                f"over decoding alone: {took.cpu_seconds / plain.cpu_seconds:.2f}",
                f"splitting over decoding alone: {ours.cpu_seconds / plain.cpu_seconds:.2f}",
            ],
        )
        for name, took in others.items()
    ]
