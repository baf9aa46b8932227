"""Wheels of made-up packages, in a folder that is all pip knows."""

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from workers.demo import packages
from workers.demo.packages import Sample

PACKAGE = "mediaweave-made-up==1.0"


class Shelf:
    """Where pip finds packages in a test, instead of an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, members: Mapping[str, bytes]) -> Path:
        wheel = self.folder / "mediaweave_made_up-1.0-py3-none-any.whl"
        info = "mediaweave_made_up-1.0.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
            metadata = "Metadata-Version: 2.1\nName: mediaweave-made-up\nVersion: 1.0\n"
            archive.writestr(f"{info}/METADATA", metadata)
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        return wheel


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """pip sees this folder only: no index, no configuration of the machine's own."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Shelf(folder)


@pytest.fixture
def picture_sample(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The content of the one file that is asked for, as ``picture.png``."""
    content = b"the bytes of a picture"
    sample = Sample(
        package=PACKAGE,
        member="made_up/data/picture.png",
        sha256=hashlib.sha256(content).hexdigest(),
        name="picture.png",
    )
    monkeypatch.setattr(packages, "SAMPLES", (sample,))
    return content
