"""Processes of mediaweave under a test's hand, and waiting for what they do."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

#: Everything that a world does takes seconds; a test that waits longer has found something.
PATIENCE_SECONDS = 60.0


def until(
    condition: Callable[[], bool],
    *,
    seconds: float = PATIENCE_SECONDS,
    every: float = 0.1,
) -> None:
    """Ask until it is so. Raises RetryError after ``seconds``."""
    Retrying(
        retry=retry_if_result(lambda met: not met),
        wait=wait_fixed(every),
        stop=stop_after_delay(seconds),
    )(condition)


@dataclass(kw_only=True)
class Process:
    """One of mediaweave's processes, with whatever it has started itself."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    def tree(self) -> list[psutil.Process]:
        """The process and all below it, those that are gone left out."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.popen.pid)
            return [root, *root.children(recursive=True)]
        return []

    def signal(self, number: signal.Signals) -> None:
        """To the whole tree, parents first."""
        for each in self.tree():
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def kill(self) -> None:
        """End all of it as a power cut would."""
        self.signal(signal.SIGKILL)
        self.popen.wait(30)

    def stop(self) -> int:
        """Ask it to end; gives its exit code."""
        self.signal(signal.SIGCONT)
        self.popen.terminate()
        return self.popen.wait(60)

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def says(self, words: str) -> bool:
        return words in self.log.read_text(errors="replace")


def with_environment(words: str) -> list[str]:
    """Command lines of the living processes, this one apart, in whose environment ``words`` are."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and words in str(process.environ()):
                found.append(" ".join(process.cmdline()))
    return found
