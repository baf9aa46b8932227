"""Fetching media: each object once, within the scratch space, and nothing left over."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import pytest
import servers
from s3_answers import DATA
from s3_proxy import S3Proxy, S3Rule, s3_proxy

from pipeline.errors import (
    MediaLimitError,
    ObjectNotFoundError,
    ResourceExhaustedError,
    StoreUnavailableError,
)
from pipeline.runner.fetching import MediaFetcher
from pipeline.storage.s3 import S3Settings
from pipeline.storage.scratch import ScratchSpace
from pipeline.storage.stores import Stores

SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A place as the database knows it."""

    uri: str
    version: str | None = None


class Site:
    """A bucket behind a proxy, and one worker's scratch space."""

    def __init__(self, server: servers.S3Server, proxy: S3Proxy, root: Path) -> None:
        self.server, self.proxy, self.root = server, proxy, root
        self.bucket = server.create_bucket()
        #: Never acts: counts what is asked for.
        self.gets = proxy.add(S3Rule(action="error", path=rf"^/{self.bucket}/", times=0))
        self.use(max_bytes=2 * len(DATA))

    def use(self, max_bytes: int) -> None:
        settings = S3Settings(
            endpoint_url=self.proxy.endpoint_url,
            max_attempts=1,
            range_bytes=1_000_003,
            range_connections=3,
        )
        self.scratch = ScratchSpace(self.root, max_bytes, wait_seconds=0)
        self.fetcher = MediaFetcher(Stores(settings), self.scratch)

    def put(self, key: str, body: bytes = DATA) -> Seen:
        """Past the proxy."""
        answer = self.server.client.put_object(Bucket=self.bucket, Key=key, Body=body)
        return Seen(uri=f"s3://{self.bucket}/{key}", version=answer.get("VersionId"))

    def ingest(self, place: Seen) -> str:
        """As an ingest does: sha256 of what is there, after a look at all its bytes."""
        with (
            self.scratch.temporary_folder() as work_dir,
            self.fetcher.of_place(place.uri, work_dir, max_bytes=10 * len(DATA)) as fetched,
        ):
            assert hashlib.sha256(fetched.path.read_bytes()).hexdigest() == fetched.sha256
            return fetched.sha256

    def split(self, *places: Seen, sha256: str = SHA256) -> None:
        """As a split does, with bytes that were ingested before."""
        with (
            self.scratch.temporary_folder() as work_dir,
            self.fetcher.of_content(sha256, places, work_dir) as path,
        ):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256

    def files(self) -> list[str]:
        lock = self.root / "lock"
        return sorted(path.name for path in self.root.rglob("*") if path.is_file() and path != lock)


@pytest.fixture
def site(moto_s3: servers.S3Server, tmp_path: Path) -> Iterator[Site]:
    with s3_proxy(moto_s3.endpoint_url) as proxy:
        yield Site(moto_s3, proxy, tmp_path / "scratch")


def test_split_takes_what_ingest_has_fetched(site: Site) -> None:
    place = site.put("a")
    assert site.ingest(place) == SHA256
    asked = site.gets.seen
    assert asked == 6, "the object and five ranges of it"
    site.split(place)
    assert site.gets.seen == asked
    assert site.files() == [SHA256]


def test_an_object_that_is_here_is_not_read_again(site: Site) -> None:
    place = site.put("a")
    site.ingest(place)
    before = site.gets.seen
    assert site.ingest(place) == SHA256
    assert site.gets.seen == before + 1, "asked whether it is still the same"
    site.put("a", b"other")
    assert site.ingest(place) == hashlib.sha256(b"other").hexdigest()


def test_whoever_comes_at_the_same_time_waits_for_the_first(site: Site) -> None:
    place = site.put("a")
    begin = Barrier(6, timeout=30)

    def work(number: int) -> None:
        begin.wait()
        if number % 2:
            site.split(place)
        else:
            site.ingest(place)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    # One of them reads ranges; the others look at most.
    assert site.gets.seen <= 6 + 5
    assert site.files() == [SHA256]


def test_other_objects_do_not_wait(site: Site) -> None:
    slow, quick = site.put("slow"), site.put("quick", b"quick")
    site.proxy.clear()
    site.proxy.add(S3Rule(action="hang", path="/slow"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(site.ingest, slow)
        site.ingest(quick)
        site.proxy.clear()
        error = waiting.exception()
    assert error is None or isinstance(error, StoreUnavailableError)


def test_bytes_are_found_at_any_of_their_places(site: Site) -> None:
    changed, gone = site.put("changed", b"other"), Seen(uri=f"s3://{site.bucket}/gone")
    site.split(changed, gone, site.put("there"))
    nowhere = hashlib.sha256(b"nowhere").hexdigest()
    with pytest.raises(ObjectNotFoundError, match=r"changed was overwritten.*gone does not exist"):
        site.split(changed, gone, sha256=nowhere)


def test_a_version_that_expired_is_looked_for_without(site: Site) -> None:
    site.server.client.put_bucket_versioning(
        Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    first = site.put("a")
    site.put("a", b"other")
    site.split(first)
    site.use(max_bytes=0)
    again = site.put("a")
    site.server.client.delete_object(Bucket=site.bucket, Key="a", VersionId=first.version)
    site.split(first)
    assert again.version != first.version


def test_local_files_are_used_where_they_are(site: Site, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(DATA)
    site.use(max_bytes=1)
    place = Seen(uri=f"file://{tmp_path}/film.mp4")
    assert site.ingest(place) == SHA256
    site.split(place)
    assert site.files() == []


def test_without_room_for_kept_files_everybody_fetches(site: Site) -> None:
    site.use(max_bytes=0)
    place = site.put("a")
    site.ingest(place)
    site.split(place)
    assert site.gets.seen == 12
    assert site.files() == []


def test_room_is_given_back_whatever_happens(site: Site) -> None:
    small, large = site.put("small", b"small"), site.put("large", bytes(3 * len(DATA)))
    place = site.put("a")
    with pytest.raises(MediaLimitError, match="raise scratch_max_bytes"):
        site.ingest(large)
    with site.scratch.temporary_folder() as folder:
        site.scratch.claim(folder, len(DATA) + 1, "something else")
        with pytest.raises(ResourceExhaustedError, match=r"no room for the 5020000 bytes of s3://"):
            site.ingest(place)
        site.ingest(small)
    site.proxy.clear()
    site.proxy.add(S3Rule(action="denied", path=f"/{site.bucket}/a", after=2))
    with pytest.raises(Exception, match="refuses"):
        site.ingest(place)
    assert site.files() == [hashlib.sha256(b"small").hexdigest()]
    assert site.ingest(place) == SHA256
