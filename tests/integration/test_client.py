"""The Python client, on a database that nobody works on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from media_factory import make_picture

from pipeline.client import Client
from pipeline.config import Settings
from pipeline.errors import ConfigurationError, InvalidMessageError


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(Settings(data_dir=tmp_path / "data")) as made:
        yield made


def test_a_job_is_submitted_once_and_followed(client: Client, tmp_path: Path) -> None:
    picture = str(make_picture(tmp_path / "a.png", colour=1))
    made = client.submit([picture], job_key="k", priority=7, name="mine")
    assert client.submit([picture], job_key="k") == made
    job = client.job(made)
    assert (job.name, job.state, job.priority, job.is_over) == ("mine", "expanding", 7, False)
    assert client.pause(made)
    assert client.job(made).state == "paused"
    assert client.resume(made)
    assert client.cancel(made)
    job = client.job(made)
    assert (job.state, job.is_over, job.assets_total) == ("cancelled", True, 0)
    assert client.retry(made) == 0
    assert client.failures(made) == []


def test_what_is_wrong_is_one_sentence(client: Client) -> None:
    with pytest.raises(InvalidMessageError, match="sources"):
        client.submit([])
    with pytest.raises(ConfigurationError, match="no profile"):
        client.submit(["s3://b/k"], profile="nope")
    with pytest.raises(ConfigurationError, match="there is no job 5"):
        client.job(5)
