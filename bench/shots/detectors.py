"""Ours and PySceneDetect's detectors, behind one face."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from scenedetect import SceneManager, open_video
from scenedetect.common import FrameTimecode
from scenedetect.detectors import (
    AdaptiveDetector,
    ContentDetector,
    HashDetector,
    HistogramDetector,
    ThresholdDetector,
)

from bench.shots.footage import Footage
from bench.shots.sources import Pixels
from pipeline.media import shots
from pipeline.media.params import SplitParams
from pipeline.models.base import Model, answers
from pipeline.models.registry import create, find_entry, with_options

T = TypeVar("T")
PEER = "PySceneDetect"
#: What PySceneDetect scales wider videos down to by default.
DEFAULT_WIDTH = 256
_PEERS = (
    ContentDetector, AdaptiveDetector, HistogramDetector, HashDetector, ThresholdDetector,
)  # fmt: skip


class Detector(Protocol):
    """What is measured."""

    name: str
    #: Whether finding includes decoding.
    decodes: bool
    #: Widths of frames at which the detector alone is timed.
    widths: Mapping[str, int]

    def find(self, path: Path, seen: Footage) -> list[int]:
        """Frame numbers of boundaries."""

    def cpu_seconds(self, seen: Footage, *, width: int) -> float:
        """Of the detector alone, on frames of a width that are there already."""


def spent(work: Callable[[], T]) -> tuple[T, float]:
    """What a call returns and its CPU seconds, threads included."""
    before = time.process_time()
    result = work()
    return result, time.process_time() - before


class Ours:
    """One of our detectors, on small frames."""

    decodes = False

    def __init__(self, name: str, make: Callable[[Footage], Any], *, is_timed: bool = True) -> None:
        self.name = name
        self.widths = {"small": SplitParams().analysis_width} if is_timed else {}
        self._make = make

    def find(self, path: Path, seen: Footage) -> list[int]:
        places = {pts: n for n, pts in enumerate(seen.pts)}
        return [places[one.pts] for one in self._run(seen)]

    def cpu_seconds(self, seen: Footage, *, width: int) -> float:
        scaled = Footage(
            frames=list(resized(seen.frames, width)), pts=seen.pts, time_base=seen.time_base
        )
        return spent(lambda: self._run(scaled))[1]

    def _run(self, seen: Footage) -> list[shots.Boundary]:
        detector = self._make(seen)
        found = []
        for pts, frame in zip(seen.pts, seen.frames, strict=True):
            found += detector.push(pts, frame)
        return [*found, *detector.finish(seen.end_pts)]


class Peer:
    """One of PySceneDetect's, with its own decoding and scaling. Default settings, but for the
    shortest scene where one is given."""

    decodes = True

    def __init__(self, kind: type, *, shortest_seconds: float | None = None) -> None:
        self._kind = kind
        self._options = {} if shortest_seconds is None else {"min_scene_len": shortest_seconds}
        note = "" if shortest_seconds is None else f", {shortest_seconds} s"
        self.name = f"{PEER} {kind.__name__.removesuffix('Detector')}{note}"
        self.widths = {"small": SplitParams().analysis_width, "default": DEFAULT_WIDTH}

    def find(self, path: Path, seen: Footage) -> list[int]:
        manager = SceneManager()
        manager.add_detector(self._kind(**self._options))
        manager.detect_scenes(open_video(str(path)))
        # The start of every scene but the first.
        return [seen.index_of(start.seconds) for start, _ in manager.get_scene_list()[1:]]

    def cpu_seconds(self, seen: Footage, *, width: int) -> float:
        frames = list(resized(seen.frames, width))
        times = [FrameTimecode(n, 25.0) for n in range(len(frames))]
        detector = self._kind(**self._options)

        def run() -> None:
            for at, frame in zip(times, frames, strict=True):
                detector.process_frame(at, frame)

        return spent(run)[1]


def resized(frames: Iterable[Pixels], width: int) -> Iterable[Pixels]:
    for frame in frames:
        height = round(frame.shape[0] * width / frame.shape[1])
        scaled = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        yield np.asarray(scaled, np.uint8)


def ours() -> Ours:
    """The detector that comes with splitting."""
    return Ours(
        "mediaweave content",
        lambda seen: shots.ContentDetector(time_base=seen.time_base, params=SplitParams()),
    )


def by_model(device: str, threads: int) -> Ours:
    """TransNetV2.

    Raises:
        ModelUnavailableError: its package is not installed.
    """
    model: Model[Any, Any] = create(with_options(find_entry("transnetv2"), threads=threads))
    model.load(device)

    def score(windows: Pixels) -> npt.NDArray[np.float32]:
        batches = [
            windows[n : n + model.max_batch] for n in range(0, len(windows), model.max_batch)
        ]
        return np.stack([one for batch in batches for one in answers(model, list(batch))])

    return Ours(
        "mediaweave TransNetV2",
        lambda seen: shots.TransNetDetector(
            time_base=seen.time_base, params=SplitParams(), score=score
        ),
        is_timed=False,
    )


def peers() -> list[Peer]:
    """PySceneDetect's detectors as they come, and the two best known with our shortest shot."""
    shortest = SplitParams().min_shot_ms / 1000
    return [
        *(Peer(kind) for kind in _PEERS),
        *(Peer(kind, shortest_seconds=shortest) for kind in (ContentDetector, AdaptiveDetector)),
    ]
