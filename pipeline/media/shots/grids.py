"""Small frames as coarse grids of mean colours, and how different two grids are.

Everything that decides about shots is computed on these grids: averaged over cells of a sixteenth
of the width, pictures barely change with noise and small motion, and fully with a cut.
"""

import cv2
import numpy as np
import numpy.typing as npt

#: uint8 ``(n, cells * 3)``: one row per frame.
Grids = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Square roots of differences, in sixteenths.
_ROOTS = np.rint(16 * np.sqrt(np.arange(256))).clip(0, 255).astype(np.uint8)
_SQUARES = np.square(np.arange(256, dtype=np.float32))
#: Variance of what a codec leaves in an empty picture; it makes empty pictures like no other.
_NOISE_VARIANCE = 2.0


def difference(one: Grids, other: Grids) -> Floats:
    """Of each row to the same one of the other: the squared mean of root differences, 0-255.

    It counts more how much of the picture changes than how strongly: a subtitle that appears or a
    hand that moves is little, another slide of the same colours is more.
    """
    if len(one) == 0:
        return np.zeros(0)
    roots = cv2.LUT(cv2.absdiff(one, other), _ROOTS)
    sums = cv2.reduce(roots, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(np.square(sums[:, 0] / (16.0 * one.shape[1])), np.float64)


def mean_difference(one: Grids, other: Grids) -> Floats:
    """Mean absolute difference of each row, 0-255: differences on a straight way add up."""
    if len(one) == 0:
        return np.zeros(0)
    sums = cv2.reduce(cv2.absdiff(one, other), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(sums[:, 0] / one.shape[1], np.float64)


def likeness(grid: Grids, others: Grids) -> Floats:
    """Correlation of one row ``(cells * 3,)`` with each row of ``others``, -1 to 1.

    Brighter, darker, paler or tinted, a picture remains like itself; an empty one is like none.
    """
    one = _centred(grid[None])
    many = _centred(others)
    floor = _NOISE_VARIANCE * one.shape[1]
    energy = np.square(one).sum() + floor
    energies = np.square(many).sum(axis=1) + floor
    return np.asarray(np.einsum("ij,j->i", many, one[0]) / np.sqrt(energy * energies), np.float64)


def paired_likeness(one: Grids, other: Grids) -> Floats:
    """Correlation of each row with the same one of the other."""
    first, second = _centred(one), _centred(other)
    floor = _NOISE_VARIANCE * one.shape[1]
    products = np.einsum("ij,ij->i", first, second)
    energy = np.einsum("ij,ij->i", first, first) + floor
    energy *= np.einsum("ij,ij->i", second, second) + floor
    return np.asarray(products / np.sqrt(energy), np.float64)


def difference_but_light(one: Grids, other: Grids) -> Floats:
    """Like :func:`difference`, of what more or less light or tint in the other leaves."""
    first, second = _centred(one), _centred(other)
    energy = np.maximum(np.einsum("ij,ij->i", first, first), 1.0)
    gain = np.clip(np.einsum("ij,ij->i", first, second) / energy, 0, 3)[:, None]
    left = np.abs(second - gain * first)
    return np.asarray(np.square(np.sqrt(left).mean(axis=1)), np.float64)


def contrast(grids: Grids) -> Floats:
    """Standard deviation of each row around its mean colour."""
    if len(grids) == 0:
        return np.zeros(0)
    squares = cv2.reduce(cv2.LUT(grids, _SQUARES), 1, cv2.REDUCE_SUM, dtype=cv2.CV_64F)[:, 0]
    variance = squares / grids.shape[1] - np.square(_means(grids)).mean(axis=1)
    return np.asarray(np.sqrt(np.maximum(variance, 0)), np.float64)


def _means(grids: Grids) -> Floats:
    """Mean colour of each row, ``(n, 3)``."""
    colours = grids.reshape(len(grids), grids.shape[1] // 3, 3)
    sums = cv2.reduce(colours, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(sums.reshape(len(grids), 3) / colours.shape[1], np.float64)


def _centred(grids: Grids) -> npt.NDArray[np.float32]:
    if len(grids) == 0:
        return np.zeros(grids.shape, np.float32)
    colours = grids.reshape(len(grids), grids.shape[1] // 3, 3)
    means = _means(grids).astype(np.float32)
    return (colours - means[:, None, :]).reshape(grids.shape)


def halved(grids: Grids, rows: int) -> Grids:
    """Grids of half as many cells in both directions; ``rows``: of cells in the given ones."""
    columns = grids.shape[1] // rows
    kept = rows - rows % 2
    if kept == 0 or columns % 6:
        return grids
    tall = grids.reshape(len(grids), rows, columns)[:, :kept].reshape(-1, columns // 3, 3)
    size = (tall.shape[1] // 2, tall.shape[0] // 2)
    half = cv2.resize(tall, size, interpolation=cv2.INTER_AREA)
    return np.asarray(half, np.uint8).reshape(len(grids), -1)


def highest(values: Floats, low: Ints, high: Ints) -> Floats:
    """Maximum of ``values[low:high]`` for each pair; 0 where that is empty."""
    pairs = np.empty(2 * len(low), np.int64)
    pairs[::2], pairs[1::2] = low, np.maximum(low, high)
    # One more value, so that the end of the last stretch is an index too.
    found = np.maximum.reduceat(np.append(values, 0.0), pairs)[::2]
    return np.where(high > low, found, 0.0)
