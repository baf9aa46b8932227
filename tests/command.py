"""Runs the command line as a user does: in a process of its own, with its own settings."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import servers

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cli:
    """``folder`` holds the data; ``settings`` are further ``MEDIAWEAVE_*`` variables."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("MEDIAWEAVE_")
        }
        return {
            **kept,
            "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
            "AWS_DEFAULT_REGION": servers.REGION,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "COLUMNS": "400",
            "MEDIAWEAVE_DATA_DIR": str(self.folder / "data"),
            **self.settings,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command; the caller waits for it or ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *arguments],
            env=self.environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, timeout: float = 300) -> Result:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{arguments} did not end: {out} {err}") from None
        return Result(code=process.returncode, out=out, err=err)
