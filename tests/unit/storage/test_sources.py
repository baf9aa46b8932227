"""Which items a source gives, and which sidecars go with them."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import S3Server

from pipeline.errors import ObjectNotFoundError
from pipeline.storage.base import ObjectInfo, stem_of
from pipeline.storage.local import LocalStore, normalise_uri
from pipeline.storage.s3 import S3Settings
from pipeline.storage.sidecars import (
    IMAGE_EXTENSIONS,
    SIDECAR_EXTENSIONS,
    SkippedFile,
    SourceItem,
    attach_sidecars,
    extension_of,
)
from pipeline.storage.sources import (
    MEDIA_EXTENSIONS,
    expand,
    expand_object,
    expand_prefix,
)
from pipeline.storage.stores import Stores


def is_media(uri: str) -> bool:
    return extension_of(uri) in MEDIA_EXTENSIONS


def grouped(*keys: str, by_folder: bool = False) -> tuple[dict[str, list[str]], list[str]]:
    """Media with the sidecars they got, and what was skipped, from keys given in any order.

    ``by_folder``: listed name by name within each folder, as SeaweedFS does.
    """
    ordered = sorted(keys, key=(lambda key: key.split("/")) if by_folder else None)
    listing = [ObjectInfo(uri=key, size_bytes=1, etag="e") for key in ordered]
    entries = list(attach_sidecars(listing, is_media))
    items = {e.uri: [s.uri for s in e.sidecars] for e in entries if isinstance(e, SourceItem)}
    return items, sorted(e.uri for e in entries if isinstance(e, SkippedFile))


def test_sidecars_go_with_the_media_of_their_name_in_their_folder() -> None:
    items, skipped = grouped(
        "d/name.mp4",
        "d/name.srt",
        "d/name.en.SRT",
        "d/name.zh-Hant.forced.vtt",
        "d/name other.srt",
        "d/name2.srt",
        "d/sub/name.srt",
        "name.ass",
    )
    assert items == {"d/name.mp4": ["d/name.en.SRT", "d/name.srt", "d/name.zh-Hant.forced.vtt"]}
    assert skipped == ["d/name other.srt", "d/name2.srt", "d/sub/name.srt", "name.ass"]


def test_a_flood_of_sidecars_is_left_out() -> None:
    names = [
        f"name.{first}{second}.srt" for first in "abcdefghijklmno" for second in "abcdefghijklmno"
    ]
    items, skipped = grouped("name.mp4", "name.mkv", *names)

    assert items == {"name.mp4": names[:200], "name.mkv": names[:200]}
    assert skipped == names[200:]


def test_the_longest_matching_name_wins() -> None:
    items, skipped = grouped("a.mp4", "a.en.mp4", "a.en.srt", "a.en.forced.srt", "a.fr.srt")
    assert items == {"a.mp4": ["a.fr.srt"], "a.en.mp4": ["a.en.forced.srt", "a.en.srt"]}
    assert skipped == []


def test_parts_are_no_languages() -> None:
    items, skipped = grouped("a.mp4", "a.part2.srt", "a.1.srt")
    assert items == {"a.mp4": []}
    assert skipped == ["a.1.srt", "a.part2.srt"]


def test_media_of_one_name_share_their_sidecars_but_pictures_get_none() -> None:
    items, skipped = grouped("a.jpg", "a.mkv", "a.mp4", "a.srt", "b.jpg", "b.srt")
    assert items == {"a.jpg": [], "a.mkv": ["a.srt"], "a.mp4": ["a.srt"], "b.jpg": []}
    assert skipped == ["b.srt"]


def test_folders_between_media_and_sidecar_do_not_part_them() -> None:
    items, skipped = grouped("d/a.mp4", "d/a.q/a.mp4", "d/a.q/a.srt", "d/a.srt", "d/a/b.mp4")
    assert items == {"d/a.mp4": ["d/a.srt"], "d/a.q/a.mp4": ["d/a.q/a.srt"], "d/a/b.mp4": []}
    assert skipped == []


def expected_sidecars(media: str, keys: set[str]) -> list[str]:
    """The rule, said without streaming."""

    def stem(uri: str) -> str:
        folder, slash, name = uri.rpartition("/")
        return folder + slash + stem_of(name)

    def owner(sidecar: str) -> str | None:
        stems = {
            stem(key) for key in keys if is_media(key) and extension_of(key) not in IMAGE_EXTENSIONS
        }
        candidate = stem(sidecar)
        for _ in range(4):
            if candidate in stems:
                return candidate
            folder, slash, name = candidate.rpartition("/")
            head, dot, tag = name.rpartition(".")
            if not dot or not tag.isalpha() or len(tag) < 2:
                return None
            candidate = folder + slash + head
        return None

    if extension_of(media) in IMAGE_EXTENSIONS:
        return []
    return sorted(
        key for key in keys if extension_of(key) in SIDECAR_EXTENSIONS and owner(key) == stem(media)
    )


@given(
    keys=st.sets(
        st.builds(
            "".join,
            st.tuples(
                st.sampled_from(["", "d/", "d/a.en/", "d/a/", "a.x/"]),
                st.sampled_from(["a", "a b", "ab", "b"]),
                st.sampled_from(["", ".en", ".fr", ".en.cc", ".x", ".7"]),
                st.sampled_from([".mp4", ".mkv", ".jpg", ".srt", ".vtt", ".txt", ""]),
            ),
        ),
        max_size=25,
    ),
    by_folder=st.booleans(),
)
def test_streaming_gives_what_looking_at_everything_would(keys: set[str], by_folder: bool) -> None:
    items, skipped = grouped(*keys, by_folder=by_folder)
    assert items == {key: expected_sidecars(key, keys) for key in keys if is_media(key)}
    taken = {uri for sidecars in items.values() for uri in sidecars}
    assert {*items, *taken, *skipped} == keys
    assert not taken & set(skipped)


def test_items_come_while_the_listing_goes_on() -> None:
    def endless() -> Iterator[ObjectInfo]:
        for number in count():
            yield ObjectInfo(uri=f"frame.{number:09}.jpg", size_bytes=1, etag="e")

    entries = attach_sidecars(endless(), is_media)
    assert [next(entries).uri for _ in range(1000)][-1] == "frame.000000999.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    for name in [
        "a.mp4",
        "a.en.srt",
        "a.en.txt",
        "b.MOV",
        ".b.mov",
        ".git/x.png",
        "raw",
        "raw.vtt",
    ]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_a_folder_takes_media_by_extension(folder: Path) -> None:
    entries = list(expand(str(folder), LocalStore()))
    names = {Path(entry.uri).name: type(entry) for entry in entries}
    assert names == {
        "a.mp4": SourceItem,
        "b.MOV": SourceItem,
        "a.en.txt": SkippedFile,
        "raw": SkippedFile,
        "raw.vtt": SkippedFile,
    }


def test_of_a_prefix_what_is_media_can_be_chosen(folder: Path) -> None:
    entries = expand_prefix(
        normalise_uri(str(folder)), LocalStore(), lambda uri: uri.endswith("/b.MOV")
    )
    assert [Path(e.uri).name for e in entries if isinstance(e, SourceItem)] == ["b.MOV"]


def test_a_prefix_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError):
        list(expand_prefix(normalise_uri(str(tmp_path / "gone")), LocalStore()))


def test_a_prefix_is_no_folder_and_an_object_no_prefix(moto_s3: S3Server) -> None:
    bucket = moto_s3.create_bucket()
    for key in ("in/a.mp4", "inbox.mp4", "clip.mp4/part.mp4", "gone.mp4.old.mp4"):
        moto_s3.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    stores = Stores(S3Settings(endpoint_url=moto_s3.endpoint_url))
    listed = [entry.uri for entry in expand_prefix(f"s3://{bucket}/in", stores)]
    assert listed == [f"s3://{bucket}/in/a.mp4", f"s3://{bucket}/inbox.mp4"]
    assert list(expand_prefix(f"s3://{bucket}/nothing", stores)) == []
    for key in ("clip.mp4", "gone.mp4"):
        item = expand_object(f"s3://{bucket}/{key}", stores)
        assert (item.uri, item.etag) == (f"s3://{bucket}/{key}", None), "it is not there"
    assert expand_object(f"s3://{bucket}/inbox.mp4", stores).etag is not None


@pytest.mark.parametrize(
    ("name", "sidecars"),
    [("a.mp4", ["a.en.srt"]), ("raw", ["raw.vtt"]), ("a.en.srt", []), (".b.mov", [])],
)
def test_a_file_named_itself_is_taken_with_its_sidecars(
    folder: Path, name: str, sidecars: list[str]
) -> None:
    (item,) = expand(str(folder / name), LocalStore())
    assert isinstance(item, SourceItem)
    assert item.size_bytes == 1
    assert [Path(sidecar.uri).name for sidecar in item.sidecars] == sidecars


def test_a_hidden_folder_named_itself_is_taken(folder: Path) -> None:
    assert [Path(e.uri).name for e in expand(str(folder / ".git"), LocalStore())] == ["x.png"]


def test_an_empty_folder_gives_an_item_that_fails(tmp_path: Path) -> None:
    assert list(expand(str(tmp_path), LocalStore())) == [SourceItem(uri=f"file://{tmp_path}")]


@pytest.fixture
def bucket(moto_s3: S3Server) -> str:
    name = moto_s3.create_bucket()
    keys = ["2024-01/a.mp4", "2024-01/", "2024-02.mp4", "2024-02.srt", "both", "both/c.mp4", "one"]
    for key in [*keys, ".x/d.mp4", "only-marker/"]:
        moto_s3.client.put_object(Bucket=name, Key=key, Body=b"" if key.endswith("/") else b"x")
    return f"s3://{name}"


@pytest.mark.parametrize(
    ("source", "items"),
    [
        ("", ["2024-01/a.mp4", "2024-02.mp4", "both/c.mp4"]),
        ("/", ["2024-01/a.mp4", "2024-02.mp4", "both/c.mp4"]),
        ("/2024-", ["2024-01/a.mp4", "2024-02.mp4"]),
        ("/2024-02", ["2024-02.mp4"]),
        ("/2024-01", ["2024-01/a.mp4"]),
        ("/2024-01/", ["2024-01/a.mp4"]),
        ("/both", ["both/c.mp4"]),
        ("/one", ["one"]),
        ("/.x", [".x/d.mp4"]),
        ("/only-marker/", ["only-marker/"]),
        ("/none", ["none"]),
    ],
)
def test_prefixes_of_a_bucket(
    moto_s3: S3Server, bucket: str, source: str, items: list[str]
) -> None:
    stores = Stores(S3Settings(endpoint_url=moto_s3.endpoint_url))
    entries = list(expand(bucket + source, stores))
    found = [e.uri.removeprefix(f"{bucket}/") for e in entries if isinstance(e, SourceItem)]
    assert found == items
    with_sidecars = {e.uri for e in entries if isinstance(e, SourceItem) and e.sidecars}
    assert with_sidecars == {f"{bucket}/{name}" for name in items if name == "2024-02.mp4"}
