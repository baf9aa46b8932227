"""Media from wherever it lies into the scratch space of this machine, each object once."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pipeline.errors import ObjectNotFoundError
from pipeline.storage.base import FetchedObject, ObjectInfo
from pipeline.storage.scratch import ScratchSpace
from pipeline.storage.stores import Stores

#: Objects whose content this process remembers.
_REMEMBERED = 10_000


class Place(Protocol):
    """Where an asset's bytes were seen."""

    @property
    def uri(self) -> str: ...

    @property
    def version(self) -> str | None: ...


class MediaFetcher:
    """Fetches media; safe for threads.

    Within a process nobody fetches what another thread is fetching: it waits, and takes what that
    one kept if it still is the object's content. Processes that share the scratch space share
    what is kept; where two of them begin the same object at the same time, each fetches it, and one
    copy is kept. Files of local stores are used where they are. Where the scratch space keeps
    nothing, everybody fetches in turn.
    """

    def __init__(self, stores: Stores, scratch: ScratchSpace) -> None:
        self._stores = stores
        self._scratch = scratch
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        self._known: OrderedDict[tuple[str, str, str | None], str] = OrderedDict()

    @contextmanager
    def of_place(
        self,
        uri: str,
        work_dir: Path,
        *,
        version: str | None = None,
        max_bytes: int | None = None,
    ) -> Iterator[FetchedObject]:
        """The object's bytes, until the block ends. ``work_dir`` is a folder of the scratch space,
        for one fetch at a time.

        Raises as :meth:`ObjectStore.fetch` and :meth:`ScratchSpace.claim` do.
        """
        with ExitStack() as pinned:
            with self._alone(uri):
                fetched = self._fetch(pinned, uri, work_dir, version, max_bytes)
            yield fetched

    @contextmanager
    def of_content(self, sha256: str, places: Sequence[Place], work_dir: Path) -> Iterator[Path]:
        """A local path of these bytes, until the block ends: kept here, or from one of the places.

        Raises:
            ObjectNotFoundError: no place holds these bytes any more.
        """
        with ExitStack() as pinned:
            # Whoever holds a place waits for nobody's content.
            with self._alone(sha256):
                path = pinned.enter_context(self._scratch.get(sha256))
                if path is None:
                    path = self._of_any_place(pinned, sha256, places, work_dir)
            yield path

    def _of_any_place(
        self, pinned: ExitStack, sha256: str, places: Sequence[Place], work_dir: Path
    ) -> Path:
        problems = []
        for place in places:
            with ExitStack() as of_this:
                try:
                    fetched = self._of_version(of_this, place, work_dir)
                except ObjectNotFoundError as error:
                    problems.append(str(error))
                    continue
                if fetched.sha256 == sha256:
                    pinned.enter_context(of_this.pop_all())
                    return fetched.path
            problems.append(f"{place.uri} was overwritten with other content")
        raise ObjectNotFoundError(
            f"the bytes {sha256} are nowhere any more: {'; '.join(problems) or 'no place is known'}"
        )

    def _of_version(self, pinned: ExitStack, place: Place, work_dir: Path) -> FetchedObject:
        if place.version is not None:
            try:
                return pinned.enter_context(
                    self.of_place(place.uri, work_dir, version=place.version)
                )
            except ObjectNotFoundError:
                # The version has expired; the same bytes may lie there in another one.
                (work_dir / "media").unlink(missing_ok=True)
        return pinned.enter_context(self.of_place(place.uri, work_dir))

    def _fetch(
        self,
        pinned: ExitStack,
        uri: str,
        work_dir: Path,
        version: str | None,
        max_bytes: int | None,
    ) -> FetchedObject:
        def on_answer(info: ObjectInfo) -> FetchedObject | None:
            sha256 = self._known.get((uri, info.etag, info.version))
            kept = pinned.enter_context(self._scratch.get(sha256)) if sha256 else None
            if sha256 is None or kept is None:
                self._scratch.claim(work_dir, info.size_bytes, uri)
                return None
            return FetchedObject(
                path=kept,
                sha256=sha256,
                size_bytes=info.size_bytes,
                etag=info.etag,
                version=info.version,
                is_scratch=False,
            )

        fetched = self._stores.fetch(
            uri, work_dir / "media", version=version, max_bytes=max_bytes, on_answer=on_answer
        )
        if not fetched.is_scratch:
            return fetched
        self._remember((uri, fetched.etag, fetched.version), fetched.sha256)
        path = pinned.enter_context(self._scratch.keep(fetched.path, fetched.sha256))
        return replace(fetched, path=path, is_scratch=path == fetched.path)

    def _remember(self, name: tuple[str, str, str | None], sha256: str) -> None:
        with self._changed:
            self._known[name] = sha256
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: what not in self._busy)
            self._busy.add(what)
        try:
            yield
        finally:
            with self._changed:
                self._busy.remove(what)
                self._changed.notify_all()
