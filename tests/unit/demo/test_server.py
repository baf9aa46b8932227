"""The demo's bucket: every file under its key, with an ETag that outlives the server."""

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from workers.demo.server import BUCKET, bucket_server

FILES = {
    "plain.txt": b"one",
    "films/Café trailer + extras.mkv": b"two",
    "deep/er/日本語 100%.png": b"three",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "bucket" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "bucket"


def _client(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint)


def _etags(client: Any) -> dict[str, str]:
    listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    return {each["Key"]: each["ETag"] for each in listed}


def test_files_are_objects_under_their_relative_paths(folder: Path) -> None:
    with bucket_server(folder) as endpoint:
        client = _client(endpoint)
        assert set(_etags(client)) == set(FILES)
        for key, content in FILES.items():
            assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content


def test_etags_are_the_same_on_the_next_server(folder: Path) -> None:
    with bucket_server(folder) as endpoint:
        first = _etags(_client(endpoint))
    with bucket_server(folder) as endpoint:
        assert _etags(_client(endpoint)) == first


def test_the_server_is_gone_afterwards(folder: Path) -> None:
    with bucket_server(folder) as endpoint:
        client = _client(endpoint)
    with pytest.raises(EndpointConnectionError):
        client.list_buckets()
