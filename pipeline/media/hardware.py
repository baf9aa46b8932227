"""Whether a device of this machine may decode video."""

from pathlib import Path

_CUDA_DEVICE = Path("/dev/nvidiactl")


def has_cuda() -> bool:
    """Whether NVIDIA's driver is there. That ffmpeg can use it is found out by trying."""
    return _CUDA_DEVICE.exists()
