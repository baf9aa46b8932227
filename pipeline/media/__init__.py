"""Opening untrusted media and splitting it, in a bounded child process.

The names below are loaded on first use: the child process imports this package too, and must not
pay for what only its parent needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.media.api import probe_media, scan_media, split_media
    from pipeline.media.ffmpeg_binary import find_ffmpeg
    from pipeline.media.limits import MediaLimits
    from pipeline.media.load import CuePicture, cue_pictures, load_audio, load_image
    from pipeline.media.params import SplitParams
    from pipeline.media.results import (
        ChildUsage,
        KeyframeFile,
        ProbeResult,
        ScanResult,
        SidecarFile,
        SplitResult,
    )
    from pipeline.media.sandbox_check import SandboxState, check_sandbox

__all__ = [
    "ChildUsage",
    "CuePicture",
    "KeyframeFile",
    "MediaLimits",
    "ProbeResult",
    "SandboxState",
    "ScanResult",
    "SidecarFile",
    "SplitParams",
    "SplitResult",
    "check_sandbox",
    "cue_pictures",
    "find_ffmpeg",
    "load_audio",
    "load_image",
    "probe_media",
    "scan_media",
    "split_media",
]

_MODULE_OF = {
    "ChildUsage": "results",
    "CuePicture": "load",
    "cue_pictures": "load",
    "KeyframeFile": "results",
    "ProbeResult": "results",
    "ScanResult": "results",
    "MediaLimits": "limits",
    "SandboxState": "sandbox_check",
    "SidecarFile": "results",
    "SplitParams": "params",
    "SplitResult": "results",
    "check_sandbox": "sandbox_check",
    "find_ffmpeg": "ffmpeg_binary",
    "load_audio": "load",
    "load_image": "load",
    "probe_media": "api",
    "scan_media": "api",
    "split_media": "api",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
