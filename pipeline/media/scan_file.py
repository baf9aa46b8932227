"""The scan of a range as a file of arrays. Runs in the child only."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from pipeline.media.likeness import THUMBNAIL_SHAPE
from pipeline.media.scanner import Piece, Proposal
from pipeline.media.shots import Boundary, Run

SCAN_NAME = "scan.safetensors"
_KINDS: tuple[Literal["cut", "dissolve", "fade"], ...] = ("cut", "dissolve", "fade")
_RUNS: tuple[Literal["black", "frozen"], ...] = ("black", "frozen")


@dataclass(slots=True, kw_only=True, eq=False)
class Scan:
    """What one range holds. The JPEGs of its proposals are files of this directory.

    ``seams``: PTS and checksums of the small frames around the first and the last edge, int64,
    shape ``(n, 2)``: those of two neighbours must agree.
    """

    pieces: list[Piece]
    runs: list[Run]
    seams: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    frame_count: int
    error_count: int
    last_lines: list[str]


def save_scan(scan: Scan) -> None:
    """Write :data:`SCAN_NAME`, with the JPEGs in it, and remove these."""
    proposals = [piece.proposal for piece in scan.pieces if piece.proposal is not None]
    jpegs = [b"" if p.jpeg is None else Path(p.jpeg).read_bytes() for p in proposals]
    arrays: dict[str, npt.NDArray[Any]] = {
        "pieces": _table(
            (
                (
                    piece.start_pts,
                    piece.end_pts,
                    piece.is_strict,
                    piece.proposal is not None,
                    *_boundary_row(piece.boundary),
                )
                for piece in scan.pieces
            ),
            8,
        ),
        "boundary_scores": np.array(
            [0.0 if p.boundary is None else p.boundary.score for p in scan.pieces], np.float64
        ),
        "proposals": _table(((p.pts, p.width_px, p.height_px, p.worth[0]) for p in proposals), 4),
        "sharpness": np.array([p.worth[1] for p in proposals], np.float64),
        "thumbnails": np.array([p.thumbnail for p in proposals], np.uint8).reshape(
            -1, *THUMBNAIL_SHAPE
        ),
        "jpeg_ends": np.cumsum([len(jpeg) for jpeg in jpegs], dtype=np.int64),
        "jpegs": np.frombuffer(b"".join(jpegs), np.uint8),
        "runs": _table(((_RUNS.index(r.kind), r.start_pts, r.end_pts) for r in scan.runs), 3),
        "first_seam": scan.seams[0],
        "last_seam": scan.seams[1],
    }
    report = {
        "frame_count": scan.frame_count,
        "error_count": scan.error_count,
        "last_lines": scan.last_lines,
    }
    arrays["report"] = np.frombuffer(json.dumps(report).encode(), np.uint8)
    for proposal in proposals:
        if proposal.jpeg is not None:
            Path(proposal.jpeg).unlink()
    save_file(arrays, SCAN_NAME)


def load_scan(path: Path, index: int) -> Scan:
    """Read the file of range ``index``; its JPEGs become files of this directory."""
    arrays = load_file(path)
    proposals = iter(_proposals(arrays, index))
    pieces = [
        Piece(
            start_pts=start,
            end_pts=end,
            boundary=_boundary(row, score),
            is_strict=bool(is_strict),
            proposal=next(proposals) if has_proposal else None,
        )
        for (start, end, is_strict, has_proposal, *row), score in zip(
            arrays["pieces"].tolist(), arrays["boundary_scores"].tolist(), strict=True
        )
    ]
    report = json.loads(arrays["report"].tobytes())
    return Scan(
        pieces=pieces,
        runs=[
            Run(kind=_RUNS[kind], start_pts=start, end_pts=end)
            for kind, start, end in arrays["runs"].tolist()
        ],
        seams=(arrays["first_seam"], arrays["last_seam"]),
        **report,
    )


def _proposals(arrays: dict[str, Any], index: int) -> list[Proposal]:
    found = []
    begin = 0
    for at, (pts, width, height, rank) in enumerate(arrays["proposals"].tolist()):
        end = int(arrays["jpeg_ends"][at])
        jpeg = None
        if end > begin:
            jpeg = f"keyframe-{index:02d}{at:06d}.jpg"
            Path(jpeg).write_bytes(arrays["jpegs"][begin:end].tobytes())
        begin = end
        found.append(
            Proposal(
                pts=pts,
                width_px=width,
                height_px=height,
                worth=(rank, float(arrays["sharpness"][at])),
                thumbnail=arrays["thumbnails"][at],
                jpeg=jpeg,
            )
        )
    return found


def _boundary_row(boundary: Boundary | None) -> tuple[int, int, int, int]:
    """0 and zeros where there is none."""
    if boundary is None:
        return 0, 0, 0, 0
    kind = 1 + _KINDS.index(boundary.kind)
    return kind, boundary.pts, boundary.start_pts, boundary.end_pts


def _boundary(row: list[int], score: float) -> Boundary | None:
    kind, pts, start, end = row
    if not kind:
        return None
    return Boundary(pts=pts, kind=_KINDS[kind - 1], start_pts=start, end_pts=end, score=score)


def _table(rows: Iterable[Sequence[int]], width: int) -> npt.NDArray[np.int64]:
    return np.array([list(row) for row in rows], np.int64).reshape(-1, width)
