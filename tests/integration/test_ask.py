"""`mediaweave ask`, on a film that was really analysed, with tiny checkpoints."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Cli
from media_factory import make_sound, make_video
from tiny_profile import PROFILES, environment, write_models

from pipeline.config import Settings
from pipeline.errors import (
    ConfigurationError,
    ModelUnavailableError,
    ObjectNotFoundError,
    PipelineError,
)
from pipeline.runner.asking import ask
from pipeline.runner.runtime import Runtime
from workers.cli.ask import print_answer

#: The second shot of the film begins here.
CUT_MS = 2000
SUBTITLES = """1
00:00:00,200 --> 00:00:01,500
A boat leaves the shore.

2
00:00:02,500 --> 00:00:03,500
The harbour is empty.
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def analysed(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A film of two shots with subtitles, and a sound, in the folder ``media``."""
    cli = Cli(folder=tmp_path_factory.mktemp("asked"), settings=environment(models))
    media = cli.folder / "media"
    media.mkdir()
    make_video(media / "film.mp4", patterns=("smptehdbars", "mandelbrot"), sound=False)
    (media / "film.srt").write_text(SUBTITLES, encoding="utf-8")
    make_sound(media / "tone.wav", seconds=1.0)
    (media / "notes.mp4").write_text("not media\n" * 20)
    result = cli("run", str(media), "--json")
    assert result.code == 1, result.err
    return cli


Open = Callable[..., Runtime]


@pytest.fixture
def opened(analysed: Cli, models: dict[str, Any]) -> Iterator[Open]:
    """Makes a runtime on the film's database: ``opened("blip")`` with that profile."""
    runtimes = []

    def make(profile: str = "tiny") -> Runtime:
        settings = Settings(
            data_dir=analysed.folder / "data", profile=profile, profiles=PROFILES, models=models
        )
        runtimes.append(Runtime(settings))
        return runtimes[-1]

    yield make
    for runtime in runtimes:
        runtime.close()


def film(analysed: Cli) -> str:
    return str(analysed.folder / "media/film.mp4")


def test_a_shot_at_a_time(analysed: Cli, opened: Open, capsys: pytest.CaptureFixture[str]) -> None:
    result = analysed("ask", film(analysed), "what is shown?", "--at", "00:02.8", "--json")
    assert result.code == 0, result.err
    found = result.json
    assert found["answer"]
    assert 0 < found["confidence"] <= 1
    assert found["model"] == "tiny-answers"
    assert found["transcript"] == "The harbour is empty."
    assert found["keyframes"]
    assert all(CUT_MS <= keyframe["at_ms"] < 2 * CUT_MS for keyframe in found["keyframes"])
    assert {keyframe["shot_index"] for keyframe in found["keyframes"]} == {1}
    with opened().database.reading() as connection:
        shown = connection.exec_driver_sql("SELECT keyframe_uri, at_ms FROM v_keyframes").all()
    for keyframe in found["keyframes"]:
        assert (keyframe["uri"], keyframe["at_ms"]) in shown
    print_answer(found)
    text = capsys.readouterr().out
    assert "(confidence 0." in text
    assert "shown: file://" in text
    assert "; transcript" in text
    assert f"model: tiny-answers {found['model_revision']}" in text


def test_the_whole_asset_by_any_name_and_twice_the_same(analysed: Cli, opened: Open) -> None:
    runtime = opened()
    with runtime.database.reading() as connection:
        row = connection.exec_driver_sql("SELECT id, sha256 FROM asset WHERE kind = 'video'").one()
    names = [film(analysed), f"file://{film(analysed)}", str(row.id), row.sha256, row.sha256[:12]]
    found = [ask(runtime, name, "what is shown?", at_ms=None) for name in names]
    assert all(one == found[0] for one in found)
    assert found[0]["transcript"] == "A boat leaves the shore. The harbour is empty."
    assert {keyframe["shot_index"] for keyframe in found[0]["keyframes"]} == {0, 1}
    times = [keyframe["at_ms"] for keyframe in found[0]["keyframes"]]
    assert times == sorted(times)


def test_the_question_and_the_shot_change_the_answer(analysed: Cli, opened: Open) -> None:
    runtime = opened()
    asked = [
        ask(runtime, film(analysed), question, at_ms=at_ms)["answer"]
        for question, at_ms in (("what?", 0), ("what?", 4000), ("how many boats?", 0))
    ]
    assert len(set(asked)) == 3


def test_another_model_by_another_profile(analysed: Cli, opened: Open) -> None:
    found = ask(opened("blip"), film(analysed), "what is shown?", at_ms=500)
    assert found["model"] == "tiny-blip"
    assert found["confidence"] is not None


def test_captions_come_from_the_vision_language_model(opened: Open) -> None:
    with opened().database.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT shot_index, text, model FROM v_captions WHERE uri LIKE '%film.mp4' ORDER BY 1"
        ).all()
    assert [row.shot_index for row in rows] == [0, 1]
    assert {row.model for row in rows} == {"tiny-captions"}
    assert rows[0].text != rows[1].text


@pytest.mark.parametrize(
    ("asset", "question", "at_ms", "error", "words"),
    [
        ("film.mp4", " \n", None, ConfigurationError, "the question has 0 characters"),
        ("film.mp4", "x" * 1001, None, ConfigurationError, "1001 characters: ask something"),
        ("film.mp4", "what?", 4001, ConfigurationError, "4.001 s is beyond the end of"),
        ("absent.mp4", "what?", None, ObjectNotFoundError, "is not in the database"),
        ("notes.mp4", "what?", None, ObjectNotFoundError, "the file is text, not media"),
        ("tone.wav", "what?", None, ConfigurationError, "has no keyframes"),
    ],
)
def test_wrong_use(
    analysed: Cli, opened: Open, asset: str, question: str, at_ms: int | None,
    error: type[PipelineError], words: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=words) as caught:
        ask(opened(), str(analysed.folder / "media" / asset), question, at_ms=at_ms)
    assert "\n" not in str(caught.value)


def test_a_profile_without_a_model_for_questions(analysed: Cli, opened: Open) -> None:
    result = analysed("ask", film(analysed), "what?", "--profile", "offline")
    assert result.code == 2
    assert result.out == ""
    assert result.err == (
        "mediaweave: the profile 'offline' has no model that answers questions: use --profile hub, "
        'or name one in a profile of yours (models.question = "blip-vqa-base")\n'
    )
    with pytest.raises(ConfigurationError, match="tiny-captions is one for caption"):
        ask(opened("wrong"), film(analysed), "what?", at_ms=None)


def test_before_anything_was_analysed(cli: Cli) -> None:
    result = cli("ask", "film.mp4", "what?")
    assert result.code == 2
    assert "there is no database at" in result.err
    assert not (cli.folder / "data").exists()


def test_weights_that_are_missing(
    analysed: Cli, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    fetch = "hf download HuggingFaceTB/SmolVLM2-500M-Video-Instruct --revision 7b375e1b"
    with pytest.raises(ModelUnavailableError, match=fetch):
        ask(opened("hub"), film(analysed), "what?", at_ms=None)


def test_no_keyframe_in_the_shot(analysed: Cli, opened: Open, tmp_path: Path) -> None:
    runtime = opened()
    with runtime.database.transaction() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE kept AS SELECT * FROM keyframe")
        connection.exec_driver_sql("DELETE FROM keyframe WHERE shot_index = 0")
    try:
        with pytest.raises(ConfigurationError, match=r"at 0\.500 s has no keyframe"):
            ask(runtime, film(analysed), "what?", at_ms=500)
        assert ask(runtime, film(analysed), "what?", at_ms=2500)["answer"]
    finally:
        with runtime.database.transaction() as connection:
            connection.exec_driver_sql(
                "INSERT INTO keyframe SELECT * FROM kept WHERE shot_index = 0"
            )
