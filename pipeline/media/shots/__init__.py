"""Shots in a stream of small frames, in memory that does not grow with the video."""

from pipeline.media.shots.boundary import Boundary, Detector
from pipeline.media.shots.content import ContentDetector, delay_ms, reach_ms
from pipeline.media.shots.stretches import Run, StretchFinder, merged, stretch_reach_ms
from pipeline.media.shots.transnet import (
    Scorer,
    TransNetDetector,
    transnet_delay_ms,
    transnet_reach_ms,
)

__all__ = [
    "Boundary",
    "ContentDetector",
    "Detector",
    "Run",
    "Scorer",
    "StretchFinder",
    "TransNetDetector",
    "delay_ms",
    "merged",
    "reach_ms",
    "stretch_reach_ms",
    "transnet_delay_ms",
    "transnet_reach_ms",
]
