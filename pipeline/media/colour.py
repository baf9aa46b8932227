"""From decoded YUV to a picture on a usual screen: RGB of sRGB, upright. Runs in the child only."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.media.first_look import FirstLook, Matrix, Orientation

#: Kr and Kb of each matrix (ITU-R BT.601, BT.709, BT.2020, SMPTE 240M).
_LUMA: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
}
#: Linear light from BT.2020 to BT.709 primaries (ITU-R BT.2087).
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    dtype=np.float32,
)
#: What counts as white, and as the brightest, in HDR (cd/m²; ITU-R BT.2408).
_WHITE_NITS = 203.0
_PEAK_NITS = 1000.0
#: Light above this share of white is rolled off.
_KNEE = 0.75
_CURVE_STEPS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """A picture in YUV 4:2:0 of limited range: even sides, 8 or 10 bits per sample.

    ``samples``: uint8 or uint16, shape ``(height * 3 // 2 * width,)``: Y, then U, then V.
    """

    width: int
    height: int
    samples: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

    @property
    def luma(self) -> npt.NDArray[np.uint8]:
        """Grey, uint8, shape ``(height, width)``, 16-235."""
        luma = self.samples[: self.width * self.height].reshape(self.height, self.width)
        return np.asarray(luma if luma.dtype == np.uint8 else luma >> 2, np.uint8)

    def merged(self) -> npt.NDArray[Any]:
        """Y, U and V of every pixel, uint8 or uint16, shape ``(height, width, 3)``."""
        full, half = (self.height, self.width), (self.height // 2, self.width // 2)
        n, quarter = full[0] * full[1], half[0] * half[1]
        chroma = [
            cv2.resize(self.samples[at : at + quarter].reshape(half), full[::-1])
            for at in (n, n + quarter)
        ]
        return np.asarray(cv2.merge([self.samples[:n].reshape(full), *chroma]))


def to_bgr(planes: Planes, look: FirstLook) -> npt.NDArray[np.uint8]:
    """uint8, HWC, BGR, 0-255, upright; HDR is tone-mapped."""
    if look.transfer == "sdr":
        picture = np.asarray(cv2.transform(planes.merged(), _matrix(look.matrix, 8)), np.uint8)
    else:
        picture = _tone_mapped(planes, look)
    return _turn(picture, look.orientation)


def _matrix(matrix: Matrix, bits: int) -> npt.NDArray[np.float64]:
    """3 × 4: from Y, U, V of limited range to B, G, R, 0 to ``2**bits - 1``."""
    red, blue = _LUMA[matrix]
    green = 1 - red - blue
    scale = 2 ** (bits - 8)
    luma, chroma = 255 / 219, 255 / 224
    by_u = np.array([2 * (1 - blue), -2 * blue * (1 - blue) / green, 0]) * chroma
    by_v = np.array([0, -2 * red * (1 - red) / green, 2 * (1 - red)]) * chroma
    offset = -16 * scale * luma - 128 * scale * (by_u + by_v)
    return np.stack([np.full(3, luma), by_u, by_v, offset], axis=1)


def _tone_mapped(planes: Planes, look: FirstLook) -> npt.NDArray[np.uint8]:
    """HDR to SDR: to light, to the primaries of BT.709, highlights rolled off, back to code values.

    The largest component is rolled off (Reinhard et al. 2002, equation 4, above a knee) and the
    others with it, which keeps hues; what is darker than the knee stays as it is.
    """
    coded = cv2.transform(planes.merged().astype(np.float32), _matrix(look.matrix, 10) / 1020)
    index = np.clip(coded * (_CURVE_STEPS - 1), 0, _CURVE_STEPS - 1).astype(np.uint16)
    light = (_pq_curve() if look.transfer == "pq" else _hlg_curve())[index]
    if look.matrix == "bt2020":
        light = np.maximum(cv2.transform(light, _TO_709[::-1, ::-1]), 0)
    largest = np.maximum(light.max(axis=2, keepdims=True), _KNEE)
    room = 1 - _KNEE
    above = (largest - _KNEE) / room
    brightest = (_PEAK_NITS / _WHITE_NITS - _KNEE) / room
    rolled = _KNEE + room * above * (1 + above / brightest**2) / (1 + above)
    shown = np.clip(light * (rolled / largest), 0, 1)
    return np.asarray(_srgb_curve()[(shown * (_CURVE_STEPS - 1)).astype(np.uint16)])


def _pq_curve() -> npt.NDArray[np.float32]:
    """Code value to light, 1 being white (SMPTE ST 2084)."""
    code = np.linspace(0, 1, _CURVE_STEPS)
    m1, m2 = 2610 / 16384, 2523 / 32
    c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
    root = code ** (1 / m2)
    light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return (np.minimum(light * 10_000, _PEAK_NITS) / _WHITE_NITS).astype(np.float32)


def _hlg_curve() -> npt.NDArray[np.float32]:
    """Code value to light, 1 being white (ITU-R BT.2100, on a screen of 1000 cd/m²)."""
    code = np.linspace(0, 1, _CURVE_STEPS)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return (scene**1.2 * _PEAK_NITS / _WHITE_NITS).astype(np.float32)


def _srgb_curve() -> npt.NDArray[np.uint8]:
    """Light, 0 to 1, to code value (IEC 61966-2-1)."""
    light = np.linspace(0, 1, _CURVE_STEPS)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (code * 255 + 0.5).astype(np.uint8)


def _turn(pixels: npt.NDArray[np.uint8], how: Orientation) -> npt.NDArray[np.uint8]:
    if how.transpose:
        pixels = pixels.transpose(1, 0, 2)
    if how.flip_horizontal:
        pixels = pixels[:, ::-1]
    if how.flip_vertical:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
