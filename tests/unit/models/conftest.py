"""Real photographs and speech, and one cache of converted weights for the whole session."""

import os
from pathlib import Path

import pytest

# Read before the fixtures that clean the environment run.
_MEDIA = os.environ.get("MEDIAWEAVE_TEST_MEDIA")


@pytest.fixture(scope="session")
def demo_media() -> Path:
    if _MEDIA is None:
        pytest.skip("MEDIAWEAVE_TEST_MEDIA names no folder with photographs and speech")
    return Path(_MEDIA)


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "model-cache"
