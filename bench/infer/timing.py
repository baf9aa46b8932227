"""The same items through the same model: in a plain loop, one by one, and through the worker."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from bench.infer.subjects import Subject
from pipeline.models.base import answers
from pipeline.models.pool import ModelPool
from pipeline.runner.run_models import RunModels

#: Assets in work at once, and how many items each has in turn: shorts and long films.
ASSETS_AT_ONCE = 4
ITEMS_OF_ASSETS = (1, 3, 40, 7, 120, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """``cpu_seconds``: of the whole process, user and system."""

    items: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.items / self.seconds


def _timed(items: int, work: Callable[[], None]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(
        items=items,
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
    )


def in_a_loop(pool: ModelPool, subject: Subject, size: int) -> Took:
    """``size`` items a call, by one thread that does nothing else."""
    name = subject.entry.info.name

    def work() -> None:
        with pool.use(name):
            model = pool.model(name)
            items = islice(cycle(subject.items), subject.count)
            while batch := list(islice(items, size)):
                answers(model, batch)

    return _timed(subject.count, work)


def through_the_worker(pool: ModelPool, subject: Subject, count: int) -> Took:
    """As stage runs of several assets do it."""
    info = subject.entry.info
    lengths = _assets(count)
    lock = threading.Lock()

    def next_length() -> int | None:
        with lock:
            return next(lengths, None)

    def asset_after_asset() -> int:
        done = 0
        while (length := next_length()) is not None:
            models = RunModels(pool, {"role": (info.name, info.revision)}, lambda: None)
            items: Iterator[Any] = islice(cycle(subject.items), length)
            done += sum(1 for _ in models.map("role", items))
        return done

    def work() -> None:
        with ThreadPoolExecutor(ASSETS_AT_ONCE) as threads:
            done = sum(
                f.result()
                for f in [threads.submit(asset_after_asset) for _ in range(ASSETS_AT_ONCE)]
            )
        if done != count:
            raise SystemExit(f"{done} of {count} items came back: the figures mean nothing")

    return _timed(count, work)


def _assets(count: int) -> Iterator[int]:
    for length in cycle(ITEMS_OF_ASSETS):
        if count <= 0:
            return
        yield min(length, count)
        count -= length


def resident_mib() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device}, {os.cpu_count()} cores"
