"""Trains fusers on labelled shots, and compares them: what `mediaweave train` and `evaluate` do."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from sqlalchemy import update

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural import checkpoint
from pipeline.fusion.neural.config import (
    CARD_NAME,
    CONFIG_NAME,
    CaptionConfig,
    FuserConfig,
    FuserKind,
    ModalityConfig,
)
from pipeline.fusion.neural.predict import TrainedFuser
from pipeline.fusion.taxonomy import SAFETY, SHIPPED
from pipeline.fusion.trained import check_features
from pipeline.models.base import UNKNOWN_LICENCE, ModelInfo
from pipeline.models.hub.entries import HUB_ENTRIES, from_settings
from pipeline.models.registry import OFFLINE_ENTRIES
from pipeline.plan.advance import register_models
from pipeline.plan.graph import OWN_MODELS
from pipeline.runner.labelled import Labelled
from pipeline.runner.runtime import Runtime
from pipeline.training.data import Split, TrainingSet, data_digest, split_by_group
from pipeline.training.distill import smaller
from pipeline.training.loop import Progress, train
from pipeline.training.loop import Result as Trained
from pipeline.training.options import TrainOptions
from schemas.tables import model

Task = Literal["tags", "class"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFuser:
    """``folder``: its checkpoint. ``is_new``: ``False`` where the same was trained before."""

    info: ModelInfo
    folder: Path
    trained: Trained
    is_new: bool


def training_set(labelled: Labelled, task: Task, *, name: str, licence: str) -> TrainingSet:
    """The shots that somebody labelled.

    Raises:
        ConfigurationError: a shot has several classes, or none is labelled.
    """
    shots = labelled.shots
    if task == "class":
        shots = [shot for shot in shots if shot.labels]
        several = next((shot for shot in shots if len(shot.labels) > 1), None)
        if several is not None:
            raise ConfigurationError(
                f"the shot of {several.uri} at {several.shot.start_ms / 1000:.3f} s has the "
                f"classes {', '.join(sorted(several.labels))}: give each shot one, or train "
                "--task tags"
            )
    return TrainingSet(
        items=[shot.item for shot in shots],
        groups=[shot.asset for shot in shots],
        tags=[shot.labels for shot in shots] if task == "tags" else (),
        classes=[min(shot.labels) for shot in shots] if task == "class" else (),
        captions=[s.caption for s in shots] if any(s.caption for s in shots) else (),
        name=name,
        licence=licence,
    )


def configuration(data: TrainingSet, labelled: Labelled, kind: FuserKind) -> FuserConfig:
    """A fuser of the modalities that the set has, for the labels that it has."""
    dimensions: dict[str, int] = {}
    for item in data.items:
        for name, tokens in item.modalities.items():
            dimensions.setdefault(name, tokens.values.shape[1])
    writes = kind == "attention" and any(data.captions)
    return FuserConfig(
        kind=kind,
        modalities=tuple(
            ModalityConfig(name=name, dimension=dimensions[name], space=space)
            for name, space in labelled.made_by.items()
            if name in dimensions
        ),
        tags=_names(tag for tags in data.tags for tag in tags or ()),
        classes=_names(name for name in data.classes if name),
        caption=CaptionConfig() if writes else None,
    )


def train_fuser(
    runtime: Runtime,
    name: str,
    config: FuserConfig,
    data: TrainingSet,
    options: TrainOptions,
    *,
    teacher: TrainedFuser | None = None,
    taught_by: str | None = None,
    share: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> NewFuser:
    """Train, keep the checkpoint below the data folder, and register the model.

    Called again with the same arguments it goes on where it was interrupted. ``taught_by``: names
    the teacher. ``share``: of the parameters that the fuser would have, such as 0.25.

    Raises:
        ConfigurationError: the name, labels, options or teacher do not fit, or a fuser of this name
            is being trained.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a fuser: use up to 64 letters, digits, '-' and '_'"
        )
    own = runtime.settings.models.get(name)
    shipped = {*OFFLINE_ENTRIES, *HUB_ENTRIES, *(info.name for info in OWN_MODELS.values())}
    if name in shipped or (own is not None and own.implementation != "fuser"):
        raise ConfigurationError(f"{name!r} cannot be the name of a fuser: a model is called so")
    if name in (SHIPPED, SAFETY):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a fuser: other classes are stored under it"
        )
    if share is not None:
        config = smaller(config, share)
    split = split_by_group(data.groups)
    home = runtime.settings.fusers_path / name
    mark = hashlib.sha256(
        f"{config.to_json()}{options.to_json()}{data_digest(data, split)}{taught_by}".encode()
    ).hexdigest()
    begun = home / f".training-{mark[:12]}"
    with _alone(home, name):
        # Whoever stopped it while the checkpoint was written, or before it had its place, gets it
        # anew.
        (begun / CONFIG_NAME).unlink(missing_ok=True)
        trained = train(
            config,
            data,
            options,
            begun,
            split=split,
            teacher=teacher,
            on_progress=on_progress,
            device=runtime.settings.device,
        )
        folder = home / trained.digest[:12]
        is_new = not folder.exists()
        if is_new:
            begun.rename(folder)
        else:
            if data.licence != UNKNOWN_LICENCE:
                (begun / CARD_NAME).replace(folder / CARD_NAME)
            shutil.rmtree(begun)
    entry = from_settings(name, implementation="fuser", path=str(folder), licence=data.licence)
    with runtime.database.transaction() as connection:
        register_models(connection, [entry.info])
        if data.licence != UNKNOWN_LICENCE:
            connection.execute(
                update(model)
                .where(model.c.name == name, model.c.revision == entry.info.revision)
                .values(licence=data.licence)
            )
    return NewFuser(info=entry.info, folder=folder, trained=trained, is_new=is_new)


def load_fuser(runtime: Runtime, name: str, labelled: Labelled) -> TrainedFuser:
    """A fuser of the settings by its name, or the one in a folder, that can read these shots.

    Raises:
        ConfigurationError: there is none, or the shots were analysed by other models than those
            it was trained on.
        ModelUnavailableError: its files are missing or broken.
    """
    fuser = checkpoint.load(fuser_folder(runtime, name), runtime.settings.device)
    check_features(name, fuser.config, labelled.made_by)
    return fuser


def fuser_folder(runtime: Runtime, name: str) -> Path:
    """Raises ConfigurationError where there is no such fuser."""
    own = runtime.settings.models.get(name)
    if own is not None and own.implementation != "fuser":
        raise ConfigurationError(f"the model {name} is no fuser but {own.implementation}")
    folder = Path(name if own is None else own.path).expanduser()
    if own is None and not folder.is_dir():
        raise ConfigurationError(
            f"there is no fuser {name!r}: name one of the settings (models.{name}), or its folder"
        )
    return folder


def rows_of(split: Split, part: Literal["test", "validation", "all"]) -> Sequence[int]:
    """Rows of a part, or of all parts."""
    if part == "all":
        return sorted((*split.train, *split.validation, *split.test))
    return split.test if part == "test" else split.validation


@contextmanager
def _alone(home: Path, name: str) -> Iterator[None]:
    """Hold the folder of a fuser; a process that ends gives it back however it ends."""
    lock = FileLock(home.parent / f".{name}.lock", blocking=False)
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"another training of {name} is under way: wait until it ends, or give --name another"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"the fuser cannot be kept in {home} ({error.strerror}); set MEDIAWEAVE_DATA_DIR to a "
            "folder that can be written"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _names(found: object) -> tuple[str, ...]:
    return tuple(sorted(set(found)))  # type: ignore[call-overload]
