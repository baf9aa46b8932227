"""Settings come from variables, then the file, then defaults; what is wrong is named."""

from pathlib import Path

import pytest

from pipeline.config import load_settings
from pipeline.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_embedded_default_lives_in_one_folder(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.database_url == f"sqlite:///{tmp_path / 'mediaweave-data' / 'mediaweave.db'}"
    assert settings.artifacts_uri == str(tmp_path / "mediaweave-data" / "artifacts")
    assert settings.is_broker_embedded


def test_a_variable_wins_over_the_file_and_an_argument_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mediaweave.toml").write_text(
        'database = "sqlite:///file.db"\nprofile = "mine"\nlease_seconds = 7\n'
        '[s3]\nendpoint_url = "http://127.0.0.1:1"\n'
        '[profiles.mine.models]\nspeech = "whisper-large-v3-turbo"\n'
    )
    monkeypatch.setenv("MEDIAWEAVE_DATABASE", "sqlite:///variable.db")
    monkeypatch.setenv("MEDIAWEAVE_S3__REGION", "eu-west-1")
    settings = load_settings(lease_seconds=9.0, profile=None)
    assert settings.database_url == "sqlite:///variable.db"
    assert settings.lease_seconds == 9
    assert settings.s3.endpoint_url == "http://127.0.0.1:1"
    assert settings.s3.region == "eu-west-1"
    assert settings.profiles["mine"].models == {"speech": "whisper-large-v3-turbo"}


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("MEDIAWEAVE_LEASE_SECONDS", "soon", "lease_seconds"),
        ("MEDIAWEAVE_CONCURRENCY", "0", "concurrency"),
        ("MEDIAWEAVE_S3__PATH_STYLE", "perhaps", "s3.path_style"),
        ("MEDIAWEAVE_LABELS", "cat,dog", "labels"),
    ],
)
def test_a_wrong_variable_is_named(
    variable: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings()


@pytest.mark.parametrize("content", ["databse = 'x'\n", "database = \n"])
def test_a_wrong_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "mediaweave.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=r"a setting is wrong|cannot be read"):
        load_settings()
