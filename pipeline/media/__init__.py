"""Opening untrusted media and splitting it, in a bounded child process.

The names below are loaded on first use: the child process imports this package too, and must not
pay for what only its parent needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.media.api import probe_media, split_media
    from pipeline.media.ffmpeg_binary import find_ffmpeg
    from pipeline.media.limits import MediaLimits
    from pipeline.media.load import load_audio, load_image
    from pipeline.media.params import SplitParams
    from pipeline.media.results import (
        ChildUsage,
        KeyframeFile,
        ProbeResult,
        SidecarFile,
        SplitResult,
    )

__all__ = [
    "ChildUsage",
    "KeyframeFile",
    "MediaLimits",
    "ProbeResult",
    "SidecarFile",
    "SplitParams",
    "SplitResult",
    "find_ffmpeg",
    "load_audio",
    "load_image",
    "probe_media",
    "split_media",
]

_MODULE_OF = {
    "ChildUsage": "results",
    "KeyframeFile": "results",
    "ProbeResult": "results",
    "MediaLimits": "limits",
    "SidecarFile": "results",
    "SplitParams": "params",
    "SplitResult": "results",
    "find_ffmpeg": "ffmpeg_binary",
    "load_audio": "load",
    "load_image": "load",
    "probe_media": "api",
    "split_media": "api",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
