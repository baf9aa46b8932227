"""Cutting a long video into ranges that several workers scan in parallel.

Nothing here opens media: the plan of an asset asks it too.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.media.params import SplitParams

#: Lines of the grid of pieces of shots in one span of ``keyframe_every_ms``.
CELLS = 3
#: More would not pay: each decodes some seconds beyond its edges.
MAX_RANGES = 16
#: Containers with an index: a decoder that begins in the middle gives the same frames there.
_INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
#: What decides about ranges, and what does not, is told apart by these.
_FIELDS = ("decode", "range_ms", "keyframe_every_ms", "shot_detector")
_DEFAULTS = asdict(SplitParams())


def count_ranges(
    *, kind: str, container: str | None, duration_ms: int | None, params: Mapping[str, Any]
) -> int:
    """How many ranges a file is scanned in, at least 2; 0: it is split in one piece.

    ``params``: the fields of :class:`SplitParams`, where they differ from the defaults.
    """
    decode, _, _, detector = (params.get(name, _DEFAULTS[name]) for name in _FIELDS)
    length = _range_ms(params)
    if (
        kind != "video"
        or container not in _INDEXED
        or decode != "all"
        or detector != "content"
        or duration_ms is None
        or not length
    ):
        return 0
    count = min(duration_ms // length, MAX_RANGES)
    return count if count >= 2 else 0


def range_edges_ms(
    index: int, count: int, *, duration_ms: int, params: SplitParams
) -> tuple[int | None, int | None]:
    """Where range ``index`` of ``count`` begins and ends, on the grid of pieces of shots.

    ``None``: where the video does.
    """
    grid = params.keyframe_every_ms // CELLS * CELLS
    edges = [duration_ms * at // count // grid * grid for at in (index, index + 1)]
    return edges[0] if index else None, edges[1] if index + 1 < count else None


def _range_ms(params: Mapping[str, Any]) -> int:
    """At least one line of the grid lies in every range."""
    length, grid = (int(params.get(name, _DEFAULTS[name])) for name in _FIELDS[1:3])
    return max(length, 2 * grid) if length else 0
