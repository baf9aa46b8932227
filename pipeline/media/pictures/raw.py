"""The preview that a camera embeds in its RAW files, by rawpy (LibRaw). Needs the extra ``raw``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from pipeline.errors import InvalidMediaError, UnsupportedMediaError
from pipeline.media.messages import one_line

#: LibRaw's turn (as in dcraw) → EXIF orientation.
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}
_SIDEWAYS = {6, 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The largest embedded preview as a JPEG file; ``size`` and ``orientation`` are the RAW's own,
    before turning upright."""

    path: Path
    size: tuple[int, int]
    orientation: int

    def is_upright(self, preview_size: tuple[int, int]) -> bool:
        """Whether the preview was turned by the camera: it is upright where the RAW lies."""
        if self.orientation not in _SIDEWAYS:
            return False
        (width, height), (preview_width, preview_height) = self.size, preview_size
        return (width > height) != (preview_width > preview_height)

    def turned_back(self, orientation: int) -> tuple[int, int]:
        """The RAW's size as a picture that ``orientation`` is still to be applied to."""
        width, height = self.size
        was_turned = self.orientation in _SIDEWAYS and orientation not in _SIDEWAYS
        return (height, width) if was_turned else (width, height)


def write_preview() -> Preview:
    """Extract it from the input.

    Raises:
        UnsupportedMediaError: rawpy is not installed, LibRaw does not know the camera, or there is
            no preview.
        InvalidMediaError: the file is damaged.
    """
    try:
        import rawpy
    except ImportError as error:
        raise UnsupportedMediaError(
            "the file is a camera RAW picture; to read its preview, type: "
            "pip install 'mediaweave[raw]' (the package rawpy)"
        ) from error
    path = Path("preview.jpg")
    try:
        with rawpy.imread("input") as raw:
            preview = raw.extract_thumb()
            size = (int(raw.sizes.width), int(raw.sizes.height))
            orientation = _ORIENTATIONS.get(int(raw.sizes.flip), 1)
    except (
        rawpy.LibRawNoThumbnailError,
        rawpy.LibRawUnsupportedThumbnailError,
        rawpy.LibRawFileUnsupportedError,
    ) as error:
        raise UnsupportedMediaError(
            f"the RAW picture has no preview that can be read ({one_line(error)}); submit a JPEG"
        ) from error
    except (rawpy.LibRawError, OSError, ValueError) as error:
        raise InvalidMediaError(f"the RAW picture is damaged: {one_line(error)}") from error
    if isinstance(preview.data, bytes):
        path.write_bytes(preview.data)
    else:
        PillowImage.fromarray(np.asarray(preview.data)).save(path, "JPEG", quality=95)
    return Preview(path=path, size=size, orientation=orientation)
