"""Random faults, one after the other, while jobs come in; then peace, and the invariants.

``STORM_SEED``, ``STORM_ASSETS`` and ``STORM_SECONDS`` repeat a storm or make it larger.
"""

import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import pytest
import servers
from faults.content import Content
from faults.injection import Fault, Point
from faults.media import make_media
from faults.processes import Process
from faults.world import World, undisturbed
from proxies import TcpProxy, tcp_proxy
from s3_proxy import S3Proxy, S3Rule, s3_proxy

from pipeline.runner import control

SEED = int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(10**6))
ASSETS = int(os.environ.get("STORM_ASSETS", "40"))
SECONDS = float(os.environ.get("STORM_SECONDS", "40"))
#: Between two faults.
PAUSE_SECONDS = (0.5, 3.0)
STAGES = (
    "expand", "ingest", "split", "vision", "safety", "ocr", "speech", "sound", "text", "fuse",
    "caption",
)  # fmt: skip


class Storm:
    """A world, and what can happen to it. Every fault ends by itself, or with :meth:`calm`."""

    def __init__(
        self,
        world: World,
        rabbitmq: servers.Server,
        database: TcpProxy,
        broker: TcpProxy,
        store: S3Proxy,
    ) -> None:
        self._world, self._rabbitmq = world, rabbitmq
        self._database, self._broker, self._store = database, broker, store
        self._random = random.Random(SEED)
        self._frozen: list[Process] = []
        self.log: list[str] = []
        self._faults: Sequence[tuple[int, Callable[[], object]]] = (
            (4, self.kill_a_process),
            (4, self.kill_a_worker),
            (3, self.freeze_a_worker),
            (2, self.kill_a_service),
            (3, self._database.cut),
            (2, self.refuse_the_database),
            (3, self.cut_commits),
            (3, self._broker.cut),
            (2, self.refuse_the_broker),
            (1, self.restart_the_broker),
            (4, self.fail_the_store),
        )

    def begin(self) -> None:
        for _ in range(3):
            self._start_worker()
        self._world.start("dispatcher")

    def pause(self) -> float:
        """Let things happen for a moment; gives for how long."""
        seconds = self._random.uniform(*PAUSE_SECONDS)
        threading.Event().wait(seconds)
        return seconds

    def strike(self) -> None:
        """Do one fault."""
        self._thaw()
        weights, faults = zip(*self._faults, strict=True)
        (fault,) = self._random.choices(faults, weights)
        self.log.append(fault.__name__)
        fault()

    def calm(self) -> None:
        """No new faults; everything is there again."""
        self._thaw()
        self._store.clear()
        self._database.cut_commits("before", times=0)
        while len(self._workers()) < 2:
            self._start_worker(faults=())

    def _workers(self) -> list[Process]:
        return [each for each in self._world.processes if each.alive and "worker" in each.log.name]

    def _start_worker(self, faults: Sequence[Fault] | None = None) -> None:
        chosen = [
            Fault(
                action="kill",
                point=self._random.choice(get_args(Point)),
                stage=self._random.choice(STAGES),
                times=1 + len(self._world.processes),
            )
            for _ in range(2)
        ]
        self._world.start("worker", faults=chosen if faults is None else faults)

    def kill_a_process(self) -> None:
        """The supervisor starts another one."""
        children = self._random.choice(self._workers()).tree()[1:]
        if children:
            children[0].kill()

    def kill_a_worker(self) -> None:
        self._random.choice(self._workers()).kill()
        self._start_worker()

    def kill_a_service(self) -> None:
        for process in self._world.processes:
            if process.alive and "dispatcher" in process.log.name:
                process.kill()
        self._world.start("dispatcher")

    def freeze_a_worker(self) -> None:
        """Until the next fault, which may be before its lease ends or after."""
        worker = self._random.choice(self._workers())
        worker.signal(signal.SIGSTOP)
        self._frozen.append(worker)

    def _thaw(self) -> None:
        while self._frozen:
            worker = self._frozen.pop()
            if worker.alive:
                worker.signal(signal.SIGCONT)

    def refuse_the_database(self) -> None:
        self._refuse(self._database)

    def refuse_the_broker(self) -> None:
        self._refuse(self._broker)

    def _refuse(self, proxy: TcpProxy) -> None:
        proxy.refuse()
        proxy.cut()
        self.pause()
        proxy.accept()

    def cut_commits(self) -> None:
        when = self._random.choice(("before", "after"))
        self._database.cut_commits(when, every=self._random.randint(2, 9), times=5)  # type: ignore[arg-type]

    def restart_the_broker(self) -> None:
        self._rabbitmq.process.kill()
        if self._random.random() < 0.5:
            shutil.rmtree(self._rabbitmq.process.folder / "mnesia")
        self._rabbitmq.process.start()

    def fail_the_store(self) -> None:
        action = self._random.choice(("error", "slow_down", "reset", "flip"))
        path = r"\.(png|wav|mp4|srt)" if action == "flip" else "."
        times = self._random.randint(1, 8)
        self._store.add(S3Rule(action=action, path=path, times=times, at_byte=10))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def storm_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("storm") / "media"
    few = max(2, ASSETS // 20)
    return make_media(folder, pictures=ASSETS - 2 * few, sounds=few, clips=few, broken=few)


@pytest.fixture(scope="module")
def storm_expected(storm_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Content:
    return undisturbed(tmp_path_factory.mktemp("undisturbed-storm"), storm_media)


@pytest.fixture
def storm(
    make_world: Callable[..., World], postgres_database: str, s3: servers.S3Server
) -> Iterator[Storm]:
    with ExitStack() as stack:
        rabbitmq = stack.enter_context(servers.rabbitmq_server())
        database, database_url = stack.enter_context(tcp_proxy(postgres_database))
        broker, broker_url = stack.enter_context(tcp_proxy(rabbitmq.url))
        store = stack.enter_context(s3_proxy(s3.endpoint_url))
        world = make_world(
            database=postgres_database,
            database_proxy=database_url,
            broker=rabbitmq.url,
            broker_proxy=broker_url,
            s3={"endpoint_url": store.endpoint_url, "max_attempts": 2, "read_timeout_seconds": 5},
        )
        made = Storm(world, rabbitmq, database, broker, store)
        yield made
        # Before its servers go.
        world.close()


def test_a_storm(
    storm: Storm,
    s3: servers.S3Server,
    storm_media: Path,
    storm_expected: Content,
) -> None:
    print(f"STORM_SEED={SEED} STORM_ASSETS={ASSETS} STORM_SECONDS={SECONDS:g}")
    world = storm._world
    bucket = s3.create_bucket()
    names = sorted(path.name for path in storm_media.iterdir())
    for name in names:
        s3.client.upload_file(str(storm_media / name), bucket, f"media/{name}")
    wanted = [name for name in names if not name.endswith(".srt")]
    random.Random(SEED).shuffle(wanted)
    storm.begin()
    passed, sent = 0.0, 0
    while passed < SECONDS:
        # Work comes in all the time, so that every fault meets some.
        due = 1 + int(len(wanted) * passed / SECONDS)
        for name in wanted[sent:due]:
            world.submit(f"s3://{bucket}/media/{name}", job_key=name)
        sent = max(sent, due)
        storm.strike()
        passed += storm.pause()
    storm.calm()
    for name in wanted:
        world.submit(f"s3://{bucket}/media/{name}", job_key=name)
    try:
        world.settle()
        # Whoever was hit again and again has failed with that reason, and is brought back.
        for error_class in ("AttemptLostError", "AccessDeniedError", "StoreUnavailableError"):
            control.retry(world.database, error_class=error_class)
        world.check(storm_expected)
    except BaseException as error:
        error.add_note(f"STORM_SEED={SEED}: {' '.join(storm.log)}")
        raise
    assert len(world.content().assets) == len(storm_expected.assets)
