"""Fixtures for all tests: private servers, fake credentials, and no network but loopback."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from command import Cli

from workers.demo.media import DemoMedia, build_demo_media


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """The credentials of the test servers, and nothing of the developer's own settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "MEDIAWEAVE_")):
                patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
        patch.setenv("AWS_DEFAULT_REGION", servers.REGION)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """Python code of tests cannot connect to other machines."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_other_machines(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_other_machines(self, address)
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield


def _refuse_other_machines(each: socket.socket, address: Any) -> None:
    if each.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    host = address[0]
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        # Not an OSError: code that expects networks to fail must not hide it.
        raise RuntimeError(f"a test tried to connect to {host}: only loopback is allowed")


@pytest.fixture(scope="session")
def demo_media() -> DemoMedia:
    """Real photographs and speech, and films made of them; `make test` has fetched them."""
    return build_demo_media(Path(__file__).parents[1] / "demo-data")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line with an embedded database of its own."""
    return Cli(folder=tmp_path)


@pytest.fixture(scope="session")
def s3() -> Iterator[servers.S3Server]:
    with servers.s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[servers.S3Server]:
    with servers.moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with servers.postgres_server() as server:
        yield server.url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of a new, empty database."""
    with servers.postgres_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    with servers.rabbitmq_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with servers.redis_server() as server:
        yield server.url
