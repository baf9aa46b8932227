"""Local files: names, and everything in a folder that is not a regular file."""

import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

import pytest

from pipeline.errors import (
    AccessDeniedError,
    ConfigurationError,
    ObjectNotFoundError,
    SourceError,
    StoreUnavailableError,
)
from pipeline.storage import local
from pipeline.storage.files import hash_stream
from pipeline.storage.local import LocalStore, normalise_uri, path_of
from pipeline.storage.s3 import S3Settings
from pipeline.storage.sources import SkippedFile, SourceItem, expand
from pipeline.storage.stores import Stores

STORE = LocalStore()
NOBODY = 65534


def uri_of(path: Path) -> str:
    return f"file://{path}"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("/media/a b%20#?.mp4", "file:///media/a b%20#?.mp4"),
        ("/media/../x/./a.mp4", "file:///x/a.mp4"),
        ("/media/", "file:///media"),
        ("file:///media/a.mp4", "file:///media/a.mp4"),
        ("FILE:///media/a.mp4", "file:///media/a.mp4"),
        ("s3://bucket/a//../b c%20", "s3://bucket/a//../b c%20"),
        ("S3://Bucket/Key", "s3://Bucket/Key"),
        ("s3:/odd name", f"file://{Path.cwd()}/s3:/odd name"),
        ("a.mp4", f"file://{Path.cwd()}/a.mp4"),
        ("./http://x", f"file://{Path.cwd()}/http:/x"),
    ],
)
def test_sources_become_uris(text: str, uri: str) -> None:
    assert normalise_uri(text) == uri
    assert normalise_uri(uri) == uri


@pytest.mark.parametrize("text", ["", "http://host/a.mp4", "gs://bucket/a", "file://a.mp4"])
def test_other_sources_are_a_matter_of_configuration(text: str) -> None:
    with pytest.raises(ConfigurationError):
        normalise_uri(text)


def test_the_refused_scheme_is_named() -> None:
    with pytest.raises(ConfigurationError, match="cannot read https:// sources"):
        normalise_uri("https://host/a.mp4")


@pytest.mark.parametrize("name", ["caf\udce9.mp4", "nul\0.mp4", "lone\ud800.mp4"])
def test_names_that_no_message_can_hold_are_refused(name: str) -> None:
    for ask in (normalise_uri, lambda text: path_of(f"file:///{text}")):
        with pytest.raises(SourceError) as caught:
            ask(name)
        str(caught.value).encode()


def test_fetch_reads_in_place_and_leaves_the_destination_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    fetched = STORE.fetch(uri_of(path), tmp_path / "destination")
    assert (fetched.path, fetched.is_scratch) == (path, False)
    assert fetched.etag == f"1-{path.stat().st_mtime_ns}"
    assert not (tmp_path / "destination").exists()
    with pytest.raises(ObjectNotFoundError, match="no version"):
        STORE.fetch(uri_of(path), tmp_path / "destination", version="1")


def test_a_file_that_grows_while_it_is_read_is_transient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")

    def hash_meanwhile(stream: BufferedReader) -> str:
        path.write_bytes(b"xy")
        return hash_stream(stream)

    monkeypatch.setattr(local, "hash_stream", hash_meanwhile)
    with pytest.raises(StoreUnavailableError, match="changed while it was read"):
        STORE.fetch(uri_of(path), tmp_path / "destination")


def test_long_and_impossible_paths_do_not_exist(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / ("x" * 300), tmp_path / "file" / "below", tmp_path / "none" / "a"):
        with pytest.raises(ObjectNotFoundError, match="does not exist"):
            STORE.head(uri_of(path))


@pytest.fixture
def special_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one good file among everything that must not be opened."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(b"x")
    os.mkfifo(folder / "fifo.mp4")
    (folder / "null.mp4").symlink_to("/dev/null")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "broken.mp4").symlink_to("nowhere")
    (folder / "up").symlink_to("..")
    (folder / "link.mp4").symlink_to("good.mp4")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")).touch()
    monkeypatch.chdir(folder)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.mp4")
        yield folder


def test_listings_take_regular_files_and_report_the_rest(special_files: Path) -> None:
    skipped: dict[str, str] = {}
    listed = STORE.list(uri_of(special_files), on_skip=skipped.__setitem__)
    assert [path_of(info.uri).name for info in listed] == ["good.mp4", "link.mp4"]
    reasons = {uri.rpartition("/")[2]: reason for uri, reason in skipped.items()}
    assert set(reasons) == {
        "broken.mp4",
        "caf\\udce9.mp4",
        "fifo.mp4",
        "loop.mp4",
        "null.mp4",
        "socket.mp4",
        "up",
    }
    assert "not a regular file" in reasons["fifo.mp4"]
    assert "not valid UTF-8" in reasons["caf\\udce9.mp4"]
    assert "symbolic link" in reasons["up"]


def test_expand_reports_what_a_folder_cannot_give(special_files: Path) -> None:
    entries = list(expand(str(special_files), Stores(S3Settings())))
    assert sum(isinstance(entry, SourceItem) for entry in entries) == 2
    assert sum(isinstance(entry, SkippedFile) for entry in entries) == 7
    assert all(entry.uri.encode() for entry in entries)


@pytest.mark.parametrize("name", ["fifo.mp4", "null.mp4", "socket.mp4", "loop.mp4"])
def test_special_files_named_themselves_are_refused(special_files: Path, name: str) -> None:
    uri = uri_of(special_files / name)
    (item,) = expand(uri, STORE)
    assert item == SourceItem(uri=uri)
    for ask in (STORE.head, STORE.read_bytes, lambda u: STORE.fetch(u, special_files / "x")):
        with pytest.raises(SourceError):
            ask(uri)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder"):
        STORE.fetch(uri_of(tmp_path), tmp_path / "x")


def test_deep_trees_do_not_exhaust_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = 1500
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.mp4").touch()
    try:
        (info,) = STORE.list(uri_of(tmp_path))
        assert info.uri == uri_of(tmp_path) + "/d" * depth + "/a.mp4"
    finally:  # shutil.rmtree() would exhaust it
        Path("a.mp4").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder where permissions count: the superuser becomes somebody else for a while."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        Path(name).chmod(0o777)
        os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


def test_what_may_not_be_read_is_denied(unprivileged: Path) -> None:
    closed = unprivileged / "closed"
    closed.mkdir()
    (unprivileged / "open.mp4").touch()
    secret = unprivileged / "secret.mp4"
    secret.touch()
    secret.chmod(0)
    closed.chmod(0)
    try:
        with pytest.raises(AccessDeniedError, match="no permission"):
            STORE.read_bytes(uri_of(secret))
        for ask in (STORE.check, lambda uri: list(STORE.list(uri))):
            with pytest.raises(AccessDeniedError, match="closed"):
                ask(uri_of(closed))
        found = {Path(entry.uri).name: entry for entry in expand(str(unprivileged), STORE)}
        assert isinstance(found["open.mp4"], SourceItem)
        skipped = found["closed"]
        assert isinstance(skipped, SkippedFile)
        assert "no permission" in skipped.reason
        with pytest.raises(ConfigurationError, match="cannot write"):
            STORE.write_bytes(uri_of(closed / "new"), b"", "text/plain")
    finally:
        closed.chmod(0o700)


def test_a_year_that_no_calendar_has_is_no_time() -> None:
    """Some file systems keep such times; this one may not."""
    assert local._time_of(253_402_300_800) is None
    assert local._time_of(-1e20) is None
    assert local._time_of(0) == datetime(1970, 1, 1, tzinfo=UTC)
