"""Which pictures show nearly the same, so that none is analysed twice."""

import numpy as np
import numpy.typing as npt

_Grey = npt.NDArray[np.uint8]

#: Rows and columns of the small picture that likeness is judged on.
THUMBNAIL_SHAPE = (72, 128)
_HASH_SIDE = 32
_HASH_BITS_SIDE = 8
#: Hashes of like pictures differ in few of their 64 bits.
_MAX_HASH_DISTANCE = 10
_BLOCK = 4
#: Like pictures differ by less than this, in grey levels, in every block: a changed word on a
#: slide is more.
_MAX_BLOCK_DIFFERENCE = 12.0
#: Pictures that a new one is compared with: the newest distinct ones.
_REMEMBERED = 512


def _dct_matrix(size: int) -> npt.NDArray[np.float64]:
    """The orthonormal DCT-II as a matrix."""
    rows = np.arange(size)[:, None]
    matrix = np.cos(np.pi * (2 * np.arange(size)[None, :] + 1) * rows / (2 * size))
    matrix *= np.sqrt(2 / size)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


_DCT = _dct_matrix(_HASH_SIDE)


def perceptual_hash(thumbnail: _Grey) -> int:
    """64 bits of the lowest frequencies (pHash: Zauner 2010) of a grey thumbnail."""
    rows = np.linspace(0, thumbnail.shape[0], _HASH_SIDE + 1).astype(int)[:-1]
    columns = np.linspace(0, thumbnail.shape[1], _HASH_SIDE + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(thumbnail.astype(np.float64), rows, 0), columns, 1)
    ones = np.add.reduceat(np.add.reduceat(np.ones(thumbnail.shape), rows, 0), columns, 1)
    low = (_DCT @ (sums / ones) @ _DCT.T)[:_HASH_BITS_SIDE, :_HASH_BITS_SIDE].ravel()
    # np.median would import numpy.ma, which takes longer than all that a short clip needs here.
    bits = low > np.sort(low)[low.size // 2 - 1 : low.size // 2 + 1].mean()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def shows_the_same(one: _Grey, other: _Grey, *, strictly: bool) -> bool:
    """Whether two thumbnails show nearly the same; not ``strictly``: whether as a whole."""
    if strictly:
        return _are_like(one, other)
    distance = (perceptual_hash(one) ^ perceptual_hash(other)).bit_count()
    return distance <= _MAX_HASH_DISTANCE or _are_like(one, other)


class DistinctPictures:
    """Numbers the distinct pictures of an asset, in the order in which they come."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int, _Grey]] = []
        self._count = 0

    def number(self, thumbnail: _Grey) -> tuple[int, str]:
        """The number of this picture, or of the like one before it, and its own hash in hex.

        ``thumbnail``: uint8, grey, of :data:`THUMBNAIL_SHAPE` whatever the picture's shape.
        """
        own = perceptual_hash(thumbnail)
        for number, other, seen in reversed(self._seen):
            if (own ^ other).bit_count() <= _MAX_HASH_DISTANCE and _are_like(thumbnail, seen):
                return number, f"{own:016x}"
        number = self._count
        self._count += 1
        self._seen = [*self._seen[1 - _REMEMBERED :], (number, own, thumbnail)]
        return number, f"{own:016x}"


def _are_like(one: _Grey, other: _Grey) -> bool:
    rows, columns = THUMBNAIL_SHAPE
    difference = np.abs(one.astype(np.int16) - other)
    blocks = difference.reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK).mean((1, 3))
    return bool(blocks.max() < _MAX_BLOCK_DIFFERENCE)
