"""`mediaweave match`: tiny dual encoders, and the offline profile on a real photograph."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Cli
from jobs import Process
from media_factory import make_video
from PIL import Image
from tiny_profile import PROFILES, environment, write_models

from pipeline.config import Settings
from pipeline.errors import (
    ConfigurationError,
    InvalidMediaError,
    ObjectNotFoundError,
    PipelineError,
    UnsupportedMediaError,
)
from pipeline.runner.matching import match
from pipeline.runner.runtime import Runtime
from workers.cli.match import print_matches

TEXTS = ["a photo of a cat", "a rocket launch", "hello [world]"]


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    noise = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return str(path)


Open = Callable[[str], Runtime]


@pytest.fixture
def opened(tmp_path: Path, tiny_models: dict[str, Any]) -> Iterator[Open]:
    runtimes = []

    def make(profile: str) -> Runtime:
        settings = Settings(
            data_dir=tmp_path / "data", profile=profile, profiles=PROFILES, models=tiny_models
        )
        runtimes.append(Runtime(settings))
        return runtimes[-1]

    yield make
    for runtime in runtimes:
        runtime.close()


def test_the_command(
    tmp_path: Path, tiny_models: dict[str, Any], picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(folder=tmp_path, settings=environment(tiny_models))
    result = cli("match", picture, *TEXTS, "--json")
    assert result.code == 0, result.err
    found = result.json
    assert found["uri"] == f"file://{picture}"
    assert (found["model"], found["method"]) == ("tiny-siglip", "sigmoid")
    assert sorted(row["text"] for row in found["matches"]) == sorted(TEXTS)
    scores = [row["score"] for row in found["matches"]]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= row["cosine"] <= 1 for row in found["matches"])
    print_matches(found)
    text = capsys.readouterr().out
    assert [line.rstrip().split("  ")[-1].strip() for line in text.splitlines()[1:4]] == [
        row["text"] for row in found["matches"]
    ]
    assert "score: probability that the text belongs to the picture" in text
    wrong = cli("match", "absent.png", "a cat")
    assert wrong.code == 2
    assert wrong.err.count("\n") == 1
    assert "absent.png" in wrong.err


def test_sigmoid_scores_stand_alone_and_softmax_scores_are_shares(
    opened: Open, picture: str
) -> None:
    def scores(profile: str, texts: list[str]) -> dict[str, float]:
        found = match(opened(profile), picture, texts)
        return {row["text"]: row["score"] for row in found["matches"]}

    together = scores("tiny", TEXTS)
    assert scores("tiny", TEXTS[:1]) == {TEXTS[0]: pytest.approx(together[TEXTS[0]], abs=1e-4)}
    shares = scores("clip", TEXTS)
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-3)
    assert scores("clip", TEXTS[:1]) == {TEXTS[0]: 1.0}
    assert len(set(shares.values())) == 3


def test_the_offline_profile_on_a_photograph(process: Process, folder: Callable[..., Path]) -> None:
    photo = folder("photos/lion.jpg") / "lion.jpg"
    found = match(process.runtime, str(photo), ["a cup of coffee", "lion", "a rocket"])
    assert (found["method"], found["model"]) == ("conse", "efficientnet-lite0")
    best, *others = found["matches"]
    assert best["text"] == "lion"
    assert best["score"] > 0.5 > max(row["score"] for row in others)
    assert best["cosine"] is None
    assert process.sql("SELECT * FROM v_assets") == []


@pytest.mark.parametrize(
    ("profile", "texts", "words"),
    [
        ("tiny", [], "give 1 to 1000 texts"),
        ("tiny", ["a cat", " "], "texts of 1 to 1000 characters"),
        ("half", ["a cat"], "tiny-siglip says nothing about texts without its other half"),
        ("mixed", ["a cat"], "tiny-clip-labels and tiny-siglip have no space in common"),
    ],
)
def test_wrong_use(opened: Open, picture: str, profile: str, texts: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        match(opened(profile), picture, texts)


def test_what_is_no_picture(opened: Open, tmp_path: Path) -> None:
    make_video(tmp_path / "film.mp4", frames_per_shot=(5,), sound=False)
    (tmp_path / "text.png").write_text("a text file, whatever its name says\n" * 20)
    (tmp_path / "empty.png").touch()
    expected: dict[str, tuple[type[PipelineError], str]] = {
        "film.mp4": (UnsupportedMediaError, r"film\.mp4 is no picture \(video, "),
        "text.png": (UnsupportedMediaError, "the file is text, not media"),
        "empty.png": (InvalidMediaError, "the file is empty"),
        "absent.png": (ObjectNotFoundError, "absent"),
        "": (PipelineError, "."),
    }
    runtime = opened("tiny")
    for name, (error, words) in expected.items():
        with pytest.raises(error, match=words) as caught:
            match(runtime, str(tmp_path / name), ["a cat"])
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data/scratch/media").glob("*/media*"))
