"""What every object store does, on local files, SeaweedFS and moto alike."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from servers import S3Server

from pipeline.errors import MediaLimitError, ObjectNotFoundError, SourceError
from pipeline.storage.artifacts import UNUSED_SECONDS, ArtifactStore
from pipeline.storage.s3 import S3Settings
from pipeline.storage.sources import SkippedFile, SourceItem, expand
from pipeline.storage.stores import Stores

TEXT = "text/plain"

#: Names that every store holds, as keys and as file names.
ODD_NAMES = [
    "with space.mp4",
    "plus+sign.mp4",
    "100%.mp4",
    "%41.mp4",
    "what?x=1&y.mp4",
    "number#1.mp4",
    "Übung/日本語 🎬.mp4",
    "e\u0301 decomposed.mp4",
    "quote'\"<>&.mp4",
    "star*[a-z]~.mp4",
    "semi;colon:,=@$!.mp4",
    ".hidden/.mp4",
    "trailing dot.",
    "http:nested.mp4",
]
#: Keys that only object stores without folders hold; SeaweedFS has folders.
ODD_KEYS = ["a//b.mp4", "/lead.mp4", "a/../b.mp4", "../b.mp4", "./b.mp4", "s3://x", "back\\slash"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store and an empty folder or bucket in it; ``root`` ends with a slash."""

    stores: Stores
    root: str
    kind: str

    def put(self, name: str, data: bytes = b"x") -> str:
        self.stores.write_bytes(self.root + name, data, TEXT)
        return self.root + name

    def names(self, prefix: str = "") -> list[str]:
        return [info.uri.removeprefix(self.root) for info in self.stores.list(self.root + prefix)]


@pytest.fixture(scope="session")
def stores_on() -> Callable[[str], Stores]:
    """Making a client takes longer than most tests. What is large here comes in ranges."""
    return cache(
        lambda endpoint_url: Stores(
            S3Settings(endpoint_url=endpoint_url, range_bytes=1 << 20, range_connections=2)
        )
    )


@pytest.fixture(params=["local", "seaweedfs", "moto"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, stores_on: Callable[[str], Stores]
) -> Place:
    if request.param == "local":
        folder = tmp_path / "files"
        folder.mkdir()
        return Place(stores=Stores(S3Settings()), root=f"file://{folder}/", kind="local")
    server: S3Server = request.getfixturevalue("s3" if request.param == "seaweedfs" else "moto_s3")
    root = f"s3://{server.create_bucket()}/"
    return Place(stores=stores_on(server.endpoint_url), root=root, kind=request.param)


def test_lists_everything_below_in_key_order(place: Place) -> None:
    for name in ["b.mp4", "a/2.mp4", "a/1.mp4", "a b.mp4", "a/deep/er/x.mp4"]:
        place.put(name, name.encode())
    assert sorted(place.names()) == [
        "a b.mp4",
        "a/1.mp4",
        "a/2.mp4",
        "a/deep/er/x.mp4",
        "b.mp4",
    ]
    if place.kind != "seaweedfs":  # which sorts folder by folder: "a/…" comes before "a b"
        assert place.names() == sorted(place.names())
    assert sorted(place.names("a/")) == ["a/1.mp4", "a/2.mp4", "a/deep/er/x.mp4"]
    sizes = {info.uri: info.size_bytes for info in place.stores.list(place.root)}
    assert sizes[place.root + "a/deep/er/x.mp4"] == len("a/deep/er/x.mp4")


def test_listing_knows_the_etags_that_head_says(place: Place) -> None:
    uri = place.put("a.mp4")
    (listed,) = place.stores.list(place.root)
    assert listed.etag == place.stores.head(uri).etag
    assert '"' not in listed.etag


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_back_as_they_were_given(place: Place, name: str, tmp_path: Path) -> None:
    uri = place.put(name, name.encode())
    assert place.names() == [name]
    assert place.stores.exists(uri)
    assert place.stores.read_bytes(uri) == name.encode()
    fetched = place.stores.fetch(uri, tmp_path / "fetched")
    assert fetched.path.read_bytes() == name.encode()
    assert next(expand(uri, place.stores)) == SourceItem(
        uri=uri,
        etag=fetched.etag,
        version=place.stores.head(uri).version,
        size_bytes=len(name.encode()),
    )


@pytest.mark.parametrize("place", ["moto"], indirect=True)
@pytest.mark.parametrize("name", ODD_KEYS)
def test_odd_keys_come_back_as_they_were_given(place: Place, name: str) -> None:
    uri = place.put(name, name.encode())
    assert place.names() == [name]
    assert place.stores.read_bytes(uri) == name.encode()
    (item,) = expand(uri, place.stores)
    assert isinstance(item, SourceItem)
    assert (item.uri, item.etag) == (uri, place.stores.head(uri).etag)


def test_fetch_gives_the_bytes_their_digest_and_size(place: Place, tmp_path: Path) -> None:
    data = bytes(range(256)) * 12_000
    uri = place.put("large.bin", data)
    fetched = place.stores.fetch(uri, tmp_path / "new" / "fetched")
    assert fetched.path.read_bytes() == data
    assert fetched.sha256 == hashlib.sha256(data).hexdigest()
    assert fetched.size_bytes == len(data)
    assert fetched.etag == place.stores.head(uri).etag
    assert fetched.is_scratch == (place.kind != "local")
    assert list(tmp_path.rglob(".part-*")) == []


def test_fetch_of_an_empty_object(place: Place, tmp_path: Path) -> None:
    fetched = place.stores.fetch(place.put("empty", b""), tmp_path / "fetched")
    assert (fetched.size_bytes, fetched.path.read_bytes()) == (0, b"")
    assert fetched.sha256 == hashlib.sha256(b"").hexdigest()


def test_objects_beyond_the_limit_are_refused(place: Place, tmp_path: Path) -> None:
    uri = place.put("a.mp4", b"12345")
    assert place.stores.fetch(uri, tmp_path / "fetched", max_bytes=5).size_bytes == 5
    with pytest.raises(MediaLimitError, match="5 bytes, more than the limit of 4"):
        place.stores.fetch(uri, tmp_path / "refused", max_bytes=4)
    with pytest.raises(MediaLimitError, match="5 bytes"):
        place.stores.read_bytes(uri, max_bytes=4)
    assert not (tmp_path / "refused").exists()


def test_overwriting_changes_the_etag_and_the_bytes(place: Place) -> None:
    uri = place.put("a.mp4", b"old")
    before = place.stores.head(uri)
    place.put("a.mp4", b"newer")
    assert place.stores.head(uri).etag != before.etag
    assert place.stores.read_bytes(uri) == b"newer"


def test_write_file_stores_a_copy(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    uri = place.root + "folder/copy"
    place.stores.write_file(uri, source, TEXT)
    source.write_bytes(b"changed since")
    assert place.stores.read_bytes(uri) == b"content"


def test_missing_objects(place: Place, tmp_path: Path) -> None:
    uri = place.root + "missing.mp4"
    assert not place.stores.exists(uri)
    for ask in (
        lambda: place.stores.head(uri),
        lambda: place.stores.read_bytes(uri),
        lambda: place.stores.fetch(uri, tmp_path / "fetched"),
    ):
        with pytest.raises(ObjectNotFoundError, match=r"missing\.mp4"):
            ask()
    assert list(tmp_path.glob("*fetched*")) == []


def test_siblings_share_the_stem_and_the_folder(place: Place) -> None:
    for name in ["d/a.mp4", "d/a.srt", "d/a.en.srt", "d/ab.srt", "d/a.x/a.srt", "a.srt"]:
        place.put(name)
    siblings = [
        info.uri.removeprefix(place.root) for info in place.stores.siblings(place.root + "d/a.mp4")
    ]
    assert siblings == ["d/a.en.srt", "d/a.mp4", "d/a.srt"]


def test_check_accepts_what_can_be_listed(place: Place) -> None:
    place.stores.check(place.root)
    place.put("a/b")
    place.stores.check(place.root + "a/b")


def test_expand_of_a_folder(place: Place) -> None:
    for name in ["d/b.MP4", "d/b.srt", "d/sub/c.wav", "d/.DS_Store", "d/notes.txt", "e/f.mp4"]:
        place.put(name)
    found = {
        entry.uri.removeprefix(place.root): entry
        for entry in expand(place.root + "d", place.stores)
    }
    assert set(found) == {"d/b.MP4", "d/sub/c.wav", "d/notes.txt"}
    video = found["d/b.MP4"]
    assert isinstance(video, SourceItem)
    assert [sidecar.uri for sidecar in video.sidecars] == [place.root + "d/b.srt"]
    assert video.etag == place.stores.head(video.uri).etag
    assert isinstance(found["d/notes.txt"], SkippedFile)


def test_expand_of_nothing_gives_an_item_that_fails_with_the_reason(
    place: Place, tmp_path: Path
) -> None:
    (item,) = expand(place.root + "nothing.mp4", place.stores)
    assert item == SourceItem(uri=place.root + "nothing.mp4")
    with pytest.raises(SourceError, match=r"nothing\.mp4"):
        place.stores.fetch(item.uri, tmp_path / "fetched")


@pytest.fixture
def artifacts(place: Place, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(place.root + "artifacts", place.stores, tmp_path / "cache")


def test_artifacts_are_found_by_their_content(
    place: Place, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "keyframe.jpg"
    source.write_bytes(b"picture")
    sha256 = artifacts.put_file(source, "image/jpeg")
    assert (
        sha256
        == hashlib.sha256(b"picture").hexdigest()
        == artifacts.put_bytes(b"picture", "image/jpeg")
    )
    assert place.names() == [f"artifacts/{sha256[:2]}/{sha256[2:4]}/{sha256}"]
    assert artifacts.uri(sha256) == place.root + place.names()[0]
    assert artifacts.read_bytes(sha256) == b"picture"
    assert artifacts.local_path(sha256).read_bytes() == b"picture"
    assert artifacts.local_path(sha256) == artifacts.local_path(sha256)
    assert (tmp_path / "cache").exists() == (place.kind != "local")


def test_downloaded_artifacts_go_when_nobody_has_used_them_for_long(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    paths = [artifacts.local_path(artifacts.put_bytes(bytes([n]), TEXT)) for n in range(3)]
    long_ago = time.time() - UNUSED_SECONDS - 60
    for path in paths[:2]:
        os.utime(path, (long_ago, long_ago))
    if artifacts.is_local:
        # These are no downloads, but the artifacts themselves.
        assert artifacts.local_path(artifacts.put_bytes(b"new", TEXT)).is_file()
        assert all(path.is_file() for path in paths)
        return
    cut_off = paths[0].with_name(".part-0")
    cut_off.touch()
    for path in (cut_off, tmp_path / "cache" / ".swept"):
        os.utime(path, (long_ago, long_ago))

    again = artifacts.local_path(paths[1].name)
    new = artifacts.local_path(artifacts.put_bytes(b"new", TEXT))

    left = {path for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert left == {again, paths[2], new, tmp_path / "cache" / ".swept"}
    assert again == paths[1]
    assert artifacts.local_path(paths[0].name).read_bytes() == bytes([0])


def test_artifacts_are_written_once(place: Place, artifacts: ArtifactStore) -> None:
    sha256 = artifacts.put_bytes(b"12345", TEXT)
    place.stores.write_bytes(artifacts.uri(sha256), b"54321", TEXT)
    artifacts.put_bytes(b"12345", TEXT)
    assert place.stores.read_bytes(artifacts.uri(sha256)) == b"54321"
    with pytest.raises(SourceError, match="is damaged"):
        artifacts.read_bytes(sha256)
    place.stores.write_bytes(artifacts.uri(sha256), b"123", TEXT)  # truncated: written anew
    artifacts.put_bytes(b"12345", TEXT)
    assert artifacts.read_bytes(sha256) == b"12345"


def test_missing_artifacts(artifacts: ArtifactStore) -> None:
    sha256 = hashlib.sha256(b"never put").hexdigest()
    with pytest.raises(ObjectNotFoundError, match=sha256):
        artifacts.read_bytes(sha256)
    with pytest.raises(ObjectNotFoundError, match=sha256):
        artifacts.local_path(sha256)


def test_delete_removes_one_object_and_may_be_repeated(place: Place) -> None:
    uri = place.put("d/a.mp4")
    place.put("d/a.mp4.srt")
    place.stores.delete(uri)
    place.stores.delete(uri)
    assert not place.stores.exists(uri)
    assert place.names() == ["d/a.mp4.srt"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_can_be_deleted(place: Place, name: str) -> None:
    place.stores.delete(place.put(name))
    assert place.names() == []


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_a_folder_is_never_deleted(place: Place) -> None:
    place.put("folder/a")
    with pytest.raises(SourceError, match="is a folder"):
        place.stores.delete(place.root + "folder")
    assert place.names() == ["folder/a"]


def test_objects_say_when_they_were_stored(place: Place) -> None:
    before = datetime.now(UTC)
    uri = place.put("a.mp4")
    after = datetime.now(UTC)
    (listed,) = place.stores.list(place.root)
    for info in (listed, place.stores.head(uri)):
        assert info.modified_at is not None
        # Some stores give whole seconds, and servers have clocks of their own.
        assert before - timedelta(seconds=5) <= info.modified_at <= after + timedelta(seconds=5)
