"""The media that are checked: a folder with a manifest, or what the tests make themselves."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).parents[2]
_SIDECAR_SUFFIXES = (".srt", ".vtt", ".ass")
#: What sidecars that belong to no film are split with.
CARRIER = "video/video_only.mp4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file and what is known of it.

    ``expect``: ``decode``, ``partial`` (with a note, or a clean error), ``reject``,
    ``unsupported``, ``encrypted``, ``bounded`` (anything within the limits). ``truth`` is what
    the file holds, ``observed`` what another decoder found in it.
    """

    file: str
    expect: str
    truth: Mapping[str, Any] = field(default_factory=dict)
    observed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_sidecar(self) -> bool:
        return self.file.endswith(_SIDECAR_SUFFIXES)

    def streams(self, kind: str) -> list[Mapping[str, Any]]:
        """Streams of one kind that another decoder got frames of; no attached pictures."""
        return [
            stream
            for stream in self.observed.get("streams", ())
            if stream["type"] == kind
            and stream["frames"]
            and (kind != "video" or stream["frames"] > 1 or stream["avg_rate"] != "None")
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Where a manifest is wrong or ambiguous: why, and what is right instead."""

    reason: str
    expect: str | None = None
    truth: Mapping[str, Any] = field(default_factory=dict)


CORRECTIONS = {
    "video/tiny_odd_66x50_60fps.mov": Correction(
        reason="the file has 87 samples, but its edit list shows 82 of them, as the other decoder "
        "found too",
        truth={"frames": 82},
    ),
    "video/nasa_multistream.mp4": Correction(
        reason="its shots were annotated on the first video stream, of 25 frames per second; the "
        "best one, which is taken, has 29.97, and its cut lies two frames earlier",
        truth={
            "shots": {
                "shot_cuts": [{"frame": 240, "time": 8.008}],
                "gradual": [{"type": "dissolve", "time_start": 5.34, "time_end": 5.87}],
                "annotation": "by eye",
            }
        },
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """``path_of`` gives a file of the room, made on demand where the tests make it."""

    name: str
    entries: Mapping[str, Entry]
    path_of: Callable[[str], Path]


def media_folder() -> Path:
    """``MEDIAWEAVE_TEST_MEDIA``, or ``shared/media`` beside the repository."""
    stated = os.environ.get("MEDIAWEAVE_TEST_MEDIA")
    return Path(stated) if stated is not None else _REPOSITORY.parent / "shared" / "media"


def read_room(folder: Path) -> Room:
    """The room of a folder with a ``manifest.json``."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entries = [
        Entry(
            file=each["file"],
            expect=each["expect"],
            truth=each["ground_truth"],
            observed=each["observed"],
        )
        for each in manifest["files"]
    ]
    return Room(
        name=str(folder),
        entries={entry.file: _corrected(entry) for entry in entries},
        path_of=folder.joinpath,
    )


def _corrected(entry: Entry) -> Entry:
    correction = CORRECTIONS.get(entry.file)
    if correction is None:
        return entry
    return replace(
        entry,
        expect=correction.expect or entry.expect,
        truth={**entry.truth, **correction.truth},
    )
