"""The parent of a worker: whatever happens to the child, there is a child again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

ROOT = Path(__file__).parents[2]

PARENT = """
import json, sys
from pipeline.telemetry import configure_logging
from workers.supervisor import Times, supervise
configure_logging()
command, times = json.loads(sys.argv[1])
sys.exit(supervise(command, times=Times(**times)))
"""

#: What every child of these tests has: its folder, its life's number, and a way to say things.
CHILD = """
import os, signal, sys, threading
from pathlib import Path
folder, pipe = Path(sys.argv[1]), int(sys.argv[2].partition("=")[2])
life = len(list(folder.glob("life-*"))) + 1
(folder / f"life-{life}.tmp").write_text(str(os.getpid()))
(folder / f"life-{life}.tmp").rename(folder / f"life-{life}")
def say(word):
    with (folder / "said").open("a") as file:
        file.write(f"{life} {word}\\n")
def forever():
    while True:
        signal.pause()
def on_term(number, frame):
    say(signal.Signals(number).name)
    os._exit(0)
"""

BEATING = CHILD + "from workers.heartbeat import Heartbeat, Watchdog\n"
READY = "heartbeat = Heartbeat(pipe, interval_seconds=0.05)\nheartbeat.ready()\n"


@retry(
    retry=retry_if_result(lambda done: not done), stop=stop_after_delay(60), wait=wait_fixed(0.02)
)
def until(condition: Callable[[], Any]) -> Any:
    return condition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """A running supervisor with children that follow ``script``."""

    process: "subprocess.Popen[str]"
    folder: Path

    def lives(self) -> list[int]:
        """Process ids of the children so far."""
        found = sorted(self.folder.glob("life-?"), key=lambda path: path.name)
        return [int(path.read_text()) for path in found]

    def said(self) -> list[str]:
        said = self.folder / "said"
        return said.read_text().splitlines() if said.exists() else []

    def until_said(self, word: str) -> None:
        until(lambda: word in self.said())

    def end(self, number: int | None = None) -> tuple[int, list[dict[str, Any]]]:
        """The exit code (after a signal, if one is given), and what was logged."""
        if number is not None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        lines = [line for line in err.splitlines() if line.startswith("{")]
        return self.process.returncode, [json.loads(line) for line in lines]


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(script: str, **times: float) -> Supervised:
        path = tmp_path / "child.py"
        path.write_text(script)
        times = {"silence": 30, "first_pause": 0.01, "longest_pause": 0.05, "health": 30, **times}
        command = [sys.executable, str(path), str(tmp_path)]
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, json.dumps([command, times])],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return Supervised(process=process, folder=tmp_path)

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def events(log: list[dict[str, Any]]) -> list[str]:
    return [entry["event"] for entry in log]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_a_child_that_ends_well_ends_the_parent(start: Start) -> None:
    supervised = start(BEATING + READY)
    assert supervised.end()[0] == 0
    assert len(supervised.lives()) == 1


@pytest.mark.parametrize(
    ("death", "logged"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", {"event": "worker_killed", "signal": "SIGSEGV"}),
        ("os.kill(os.getpid(), signal.SIGKILL)", {"event": "worker_killed", "signal": "SIGKILL"}),
        ("os.abort()", {"event": "worker_killed", "signal": "SIGABRT"}),
        ("sys.exit(1)", {"event": "worker_died", "exit_code": 1}),
    ],
)
def test_a_child_that_dies_is_replaced_loudly(
    start: Start, death: str, logged: dict[str, Any]
) -> None:
    supervised = start(CHILD + f"if life < 4:\n    {death}\n")
    code, log = supervised.end()
    assert code == 0
    assert len(supervised.lives()) == 4
    assert [logged | {"level": "error"}] * 3 == [
        {key: entry.get(key) for key in (*logged, "level")} for entry in log
    ]


def test_a_child_that_asks_for_it_is_replaced_without_a_pause(start: Start) -> None:
    # A pause would be longer than this test has time.
    supervised = start(
        CHILD + "if life < 2:\n    sys.exit(75)\n", first_pause=3600, longest_pause=3600
    )
    code, log = supervised.end()
    assert (code, len(supervised.lives())) == (0, 2)
    assert events(log) == ["worker_replaced"]


def test_a_row_of_replacements_pauses_and_a_signal_ends_the_pause(start: Start) -> None:
    supervised = start(CHILD + "sys.exit(75)\n", first_pause=3600, longest_pause=3600)
    until(lambda: len(supervised.lives()) == 2)
    until(lambda: not is_alive(supervised.lives()[1]))
    assert supervised.end(signal.SIGTERM)[0] == 0
    assert len(supervised.lives()) == 2


def test_health_ends_a_row_of_deaths(start: Start) -> None:
    # Each child lives for longer than `health`: all pauses are the first one, or none.
    script = BEATING + READY + "if life < 4:\n    threading.Event().wait(0.2)\n    sys.exit(75)\n"
    supervised = start(script, health=0.1, first_pause=3600, longest_pause=3600)
    assert supervised.end()[0] == 0
    assert len(supervised.lives()) == 4


def test_wrong_settings_end_the_parent_too(start: Start) -> None:
    supervised = start(CHILD + "sys.exit(2)\n")
    assert supervised.end()[0] == 2
    assert len(supervised.lives()) == 1


def test_what_was_right_once_is_not_given_up(start: Start) -> None:
    script = (
        BEATING
        + "if life == 2:\n    sys.exit(2)\n"
        + READY
        + "if life == 1:\n    threading.Event().wait(0.1)\n    sys.exit(75)\n"
    )
    supervised = start(script)
    code, log = supervised.end()
    assert (code, len(supervised.lives())) == (0, 3)
    assert {"worker_replaced", "worker_died"} < set(events(log))


@pytest.mark.parametrize(
    "hang",
    [
        pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", id="stopped"),
        pytest.param("import re; re.match('(a+)+$', 'a' * 60 + 'b')", id="holds the GIL"),
    ],
)
def test_a_child_that_hangs_is_killed_and_replaced(start: Start, hang: str) -> None:
    script = (
        BEATING
        + READY
        + "signal.signal(signal.SIGTERM, on_term)\n"
        + f"if life == 1:\n    {hang}\n"
        + "say('works')\nforever()\n"
    )
    supervised = start(script, silence=1)
    supervised.until_said("2 works")
    assert not is_alive(supervised.lives()[0])
    code, log = supervised.end(signal.SIGTERM)
    assert code == 0
    assert events(log) == ["worker_ready", "worker_hung", "worker_killed", "worker_ready"]


def test_a_slow_start_is_no_silence(start: Start) -> None:
    script = BEATING + "threading.Event().wait(1.5)\n" + READY
    supervised = start(script, silence=0.5)
    assert supervised.end()[0] == 0
    assert len(supervised.lives()) == 1


def test_a_frozen_parent_does_not_blame_its_child(start: Start) -> None:
    script = (
        BEATING
        + READY
        + "signal.signal(signal.SIGTERM, on_term)\nsay('works')\n"
        + "threading.Event().wait(1)\nsay('worked on')\nforever()\n"
    )
    supervised = start(script, silence=0.4)
    supervised.until_said("1 works")
    supervised.process.send_signal(signal.SIGSTOP)
    supervised.until_said("1 worked on")
    supervised.process.send_signal(signal.SIGCONT)
    code, log = supervised.end(signal.SIGTERM)
    assert (code, events(log)) == (0, ["worker_ready"])
    assert supervised.said() == ["1 works", "1 worked on", "1 SIGTERM"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_forwarded_once_each(start: Start, number: signal.Signals) -> None:
    script = (
        BEATING
        + READY
        + """
came = []
def handle(number, frame):
    came.append(number)
    say(f"{len(came)} {signal.Signals(number).name}")
    if len(came) == 3:
        os._exit(7)
for each in (signal.SIGTERM, signal.SIGINT):
    signal.signal(each, handle)
say("works")
forever()
"""
    )
    supervised = start(script)
    supervised.until_said("1 works")
    name = number.name
    supervised.process.send_signal(number)
    supervised.until_said(f"1 1 {name}")
    supervised.process.send_signal(number)
    supervised.until_said(f"1 2 {name}")
    code, _ = supervised.end(number)
    assert code == 7
    assert supervised.said() == ["1 works", f"1 1 {name}", f"1 2 {name}", f"1 3 {name}"]


def test_a_terminals_interrupt_reaches_the_child_once(start: Start) -> None:
    script = (
        BEATING
        + READY
        + "def handle(number, frame):\n    say('interrupted')\n"
        + "signal.signal(signal.SIGINT, handle)\n"
        + "signal.signal(signal.SIGTERM, on_term)\n"
        + "say('works')\nforever()\n"
    )
    supervised = start(script)
    supervised.until_said("1 works")
    child = supervised.lives()[0]
    assert os.getpgid(child) != os.getpgid(supervised.process.pid)
    supervised.process.send_signal(signal.SIGINT)
    supervised.until_said("1 interrupted")
    assert supervised.end(signal.SIGTERM)[0] == 0
    assert supervised.said() == ["1 works", "1 interrupted", "1 SIGTERM"]


def test_the_exit_code_tells_how_a_stopped_child_ended(start: Start) -> None:
    script = (
        BEATING
        + READY
        + "def handle(number, frame):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        + "signal.signal(signal.SIGTERM, handle)\nsay('works')\nforever()\n"
    )
    supervised = start(script)
    supervised.until_said("1 works")
    assert supervised.end(signal.SIGTERM)[0] == 128 + signal.SIGKILL
    assert len(supervised.lives()) == 1


def test_a_stop_before_the_child_listens_is_a_clean_end(start: Start) -> None:
    supervised = start(CHILD + "say('works')\nforever()\n")
    supervised.until_said("1 works")
    assert supervised.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("state", ["works", "hangs"])
def test_the_child_dies_with_its_parent(start: Start, state: str) -> None:
    end = "forever()" if state == "works" else "import re; re.match('(a+)+$', 'a' * 60 + 'b')"
    supervised = start(BEATING + READY + f"say('works')\n{end}\n")
    supervised.until_said("1 works")
    supervised.end(signal.SIGKILL)
    until(lambda: not is_alive(supervised.lives()[0]))


def test_a_parent_that_died_during_the_start_is_noticed(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    script = tmp_path / "child.py"
    script.write_text(BEATING + READY + "forever()\n")
    child = subprocess.run(
        [sys.executable, str(script), str(tmp_path), f"--heartbeat-fd={writer}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        pass_fds=[writer],
        check=False,
        timeout=60,
        capture_output=True,
    )
    os.close(writer)
    assert child.returncode == 75
    assert b"supervisor_gone" in child.stdout + child.stderr


WATCHED = (
    BEATING
    + READY
    + """
class Stages:
    stuck = []
    def stalled(self, limit_seconds):
        assert limit_seconds == 5
        return self.stuck
def on_replace(reason, tokens):
    say(f"{reason} {tokens}")
    callback()
signal.signal(signal.SIGTERM, on_term)
def watch(memory_bytes=None, deadline_seconds=30):
    watchdog = Watchdog(
        Stages(), stall_seconds=5, memory_bytes=memory_bytes, on_replace=on_replace,
        deadline_seconds=deadline_seconds, interval_seconds=0.02)
    watchdog.start()
    return watchdog
"""
)


def test_a_child_beyond_its_memory_is_replaced(start: Start) -> None:
    script = (
        WATCHED
        + """
callback = lambda: None
watch(memory_bytes=200 << 20)
threading.Event().wait(0.2)
say("works")
if life == 1:
    held = bytearray(os.urandom(1 << 20) * 300)
forever()
"""
    )
    supervised = start(script)
    supervised.until_said("2 works")
    assert supervised.end(signal.SIGTERM)[0] == 0
    assert supervised.said() == ["1 works", "1 memory []", "2 works", "2 SIGTERM"]


@pytest.mark.parametrize(
    ("callback", "deadline"),
    [
        pytest.param("None", 30, id="gives back"),
        pytest.param("1 / 0", 30, id="fails"),
        pytest.param("threading.Event().wait()", 0.2, id="blocks"),
    ],
)
def test_a_child_with_a_stalled_stage_is_replaced(
    start: Start, callback: str, deadline: float
) -> None:
    script = (
        WATCHED
        + f"callback = lambda: {callback}\n"
        + f"watch(deadline_seconds={deadline})\n"
        + "say('works')\n"
        + "if life == 1:\n    Stages.stuck = ['token-1', 'token-2']\n"
        + "forever()\n"
    )
    supervised = start(script)
    supervised.until_said("2 works")
    code, log = supervised.end(signal.SIGTERM)
    assert code == 0
    assert supervised.said() == [
        "1 works",
        "1 stalled ['token-1', 'token-2']",
        "2 works",
        "2 SIGTERM",
    ]
    assert events(log) == ["worker_ready", "worker_replaced", "worker_ready"]


def test_a_replacement_is_not_cut_short(start: Start) -> None:
    script = (
        WATCHED
        + """
begun = threading.Event()
def callback():
    begun.set()
    threading.Event().wait(0.3)
    say("gave back")
watchdog = watch()
if life == 1:
    Stages.stuck = ["token"]
    begun.wait()
    watchdog.stop()
    say("went on")
say("works")
forever()
"""
    )
    supervised = start(script)
    supervised.until_said("2 works")
    assert supervised.end(signal.SIGTERM)[0] == 0
    assert supervised.said() == ["1 stalled ['token']", "1 gave back", "2 works", "2 SIGTERM"]


def test_the_parent_stays_small(start: Start) -> None:
    supervised = start(BEATING + READY + "say('works')\nforever()\n")
    supervised.until_said("1 works")
    statm = Path(f"/proc/{supervised.process.pid}/statm").read_text()
    assert int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") < 64 << 20
    assert supervised.end(signal.SIGINT)[0] == 0
