"""Media that the tests make where no folder of media is found: the same form, everything known."""

import atexit
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from conformance import own_films, own_pictures, own_sidecars
from conformance.room import Entry, Room

Make = Callable[[Path, Callable[[str], Path]], None]


def make_room() -> Room:
    """Nothing is made before it is asked for."""
    recipes: dict[str, tuple[Entry, Make]] = {
        entry.file: (entry, make)
        for entry, make in (*own_films.recipes(), *own_pictures.recipes(), *own_sidecars.recipes())
    }
    kitchen = _Kitchen({file: make for file, (_, make) in recipes.items()})
    return Room(
        name="the tests' own, since there is no folder of media",
        entries={file: entry for file, (entry, _) in recipes.items()},
        path_of=kitchen.path_of,
    )


class _Kitchen:
    """Makes each file once; one after another, since some are made of others."""

    def __init__(self, makers: dict[str, Make]) -> None:
        self._makers = makers
        self._folder: Path | None = None
        self._lock = threading.RLock()

    def path_of(self, file: str) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(mkdtemp(prefix="conformance-"))
                atexit.register(shutil.rmtree, self._folder)
            path = self._folder / file
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._makers[file](path, self.path_of)
            return path
