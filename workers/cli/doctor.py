"""``mediaweave doctor``: what is installed, and what can be reached."""

import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from rich.console import Console

from pipeline.config import Settings
from pipeline.db.engine import check_connection, open_database
from pipeline.db.migrate import current_revision, latest_revision
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.media import check_sandbox, find_ffmpeg
from pipeline.media.landlock import ABI_WITH_SCOPES
from pipeline.models.registry import create
from pipeline.plan.profiles import model_entry, profile_named
from pipeline.storage.local import SCHEME as LOCAL_SCHEME
from pipeline.storage.local import normalise_uri, path_of
from pipeline.storage.s3 import S3Settings
from pipeline.storage.stores import Stores
from workers.app import check_broker, make_app
from workers.cli.report import escape

PACKAGES = (
    "celery", "kombu", "torch", "transformers", "opencv-python-headless", "ffmpeg-python",
    "sqlalchemy", "boto3",
)  # fmt: skip

MARKS = {"good": "[green]ok[/]   ", "note": "[yellow]note[/] ", "wrong": "[red]wrong[/]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    level: Literal["good", "note", "wrong"]
    text: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings, sources: Sequence[str]) -> list[Finding]:
    """Look at everything; a thing that is wrong stops nothing else."""
    return [
        Finding(
            what="python", level="good", text=f"{platform.python_version()} at {sys.executable}"
        ),
        *(_package(name) for name in PACKAGES),
        _tried("ffmpeg", lambda: str(find_ffmpeg())),
        sandbox_finding(),
        _device(settings),
        *_models(settings),
        _tried("database", lambda: _database(settings)),
        _tried("artifacts", lambda: _store(settings, settings.artifacts_uri)),
        _tried("broker", lambda: _broker(settings)),
        *(_tried(source, lambda source=source: _store(settings, source)) for source in sources),  # type: ignore[misc]
        _disk(settings),
    ]


def print_findings(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        console.print(f"{MARKS[finding.level]} {escape(finding.what)}: {escape(finding.text)}")


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what=what, level="good", text=look())
    except PipelineError as error:
        return Finding(what=what, level="wrong", text=str(error))


def _package(name: str) -> Finding:
    try:
        return Finding(what=name, level="good", text=version(name))
    except PackageNotFoundError:
        if name == "opencv-python-headless":
            return _package("opencv-python")
        return Finding(what=name, level="wrong", text=f"not installed: pip install {name}")


def sandbox_finding() -> Finding:
    """What keeps hostile media from network, files and memory, tried in a child."""
    what = "media sandbox"
    try:
        state = check_sandbox()
    except PipelineError as error:
        return Finding(what=what, level="wrong", text=str(error))
    in_force = ["seccomp"] * state.seccomp
    in_force += [f"Landlock (ABI {state.landlock_abi})"] * bool(state.landlock_abi)
    in_force += ["limits"] * state.limits
    lacks = []
    if not state.seccomp:
        lacks.append("no seccomp here, so a file that takes over its decoder reaches the network")
    if not state.landlock_abi:
        lacks.append(
            "no Landlock here (Linux 5.13 or newer, not forbidden by the container runtime), so "
            "such a file reads whatever this user may read, secrets in the environment of its "
            "processes too, and ends other processes of this user"
        )
    elif state.landlock_abi < ABI_WITH_SCOPES:
        lacks.append(
            "this Landlock holds no signals (Linux 6.12 or newer does), so such a file ends other "
            "processes of this user"
        )
    if not state.limits:
        lacks.append("limits cannot be set here, so such a file takes all memory")
    text = "; ".join([", ".join(in_force) or "nothing is in force", *lacks])
    return Finding(what=what, level="note" if lacks else "good", text=text)


def _device(settings: Settings) -> Finding:
    import torch

    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        return Finding(
            what="device",
            level="wrong",
            text=f"{settings.device} is set, but torch {torch.__version__} sees no CUDA device",
        )
    if settings.device.startswith("cuda"):
        return Finding(what="device", level="good", text=torch.cuda.get_device_name())
    seen = f", {torch.cuda.device_count()} CUDA devices unused" if torch.cuda.is_available() else ""
    return Finding(what="device", level="good", text=settings.device + seen)


def _models(settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    try:
        profile = profile_named(settings.profile, settings)
    except ConfigurationError as error:
        return [Finding(what="profile", level="wrong", text=str(error))]
    for role, name in profile.models.items():

        def look(name: str = name) -> str:
            entry = model_entry(name, settings)
            model = create(entry)
            model.load(settings.device)
            model.unload()
            return f"{name} {entry.info.revision} ({entry.info.licence}) loads"

        findings.append(_tried(f"model {role}", look))
    return findings


def _database(settings: Settings) -> str:
    database = open_database(settings.database_url)
    try:
        check_connection(database)
        revision, latest = current_revision(database), latest_revision()
    finally:
        database.close()
    if revision not in (None, latest):
        raise ConfigurationError(
            f"{database.display_url} is at revision {revision}, this version needs {latest}: run "
            "`mediaweave database upgrade`, or upgrade this installation if it is the older one"
        )
    return f"{database.display_url} " + ("is up to date" if revision else "is empty, and ready")


def _store(settings: Settings, uri: str) -> str:
    stores = Stores(S3Settings(**settings.s3.model_dump()))
    target = normalise_uri(uri)
    is_ours = target == normalise_uri(settings.artifacts_uri)
    if is_ours and target.startswith(LOCAL_SCHEME) and not path_of(target).exists():
        return f"{target} is made by the first run"
    stores.check(target)
    return f"{target} can be reached"


def _broker(settings: Settings) -> str:
    app = make_app(settings)
    check_broker(app)
    if settings.is_broker_embedded:
        return "embedded, in memory"
    return f"{app.connection_for_write().as_uri()} can be reached"


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    level: Literal["good", "note"] = "good" if free > 5 << 30 else "note"
    return Finding(what="disk", level=level, text=f"{free / 2**30:.1f} GiB free at {folder}")
