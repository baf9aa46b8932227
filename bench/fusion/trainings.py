"""What is trained, one training per call, so that processes can share the work."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from bench.fusion.data import CLEAN, DEV, MODALITIES, load_set
from pipeline.fusion.neural import checkpoint
from pipeline.fusion.neural.config import (
    CONFIG_NAME,
    FuserConfig,
    FuserKind,
    ModalityConfig,
    TowerConfig,
)
from pipeline.training.data import Split, TrainingSet
from pipeline.training.distill import smaller
from pipeline.training.loop import train
from pipeline.training.options import TowerAugment, TrainOptions

FUSERS: tuple[FuserKind, ...] = ("late", "concat", "attention")
CLASSES = tuple(str(digit) for digit in range(10))
SHAPES = {"picture": (1, 28, 28), "sound": (1, 32, 32)}
AUGMENT = {
    "picture": TowerAugment(shift=(2, 2)),
    "sound": TowerAugment(shift=(3, 3), mask=(6, 6)),
}
OPTIONS = {
    DEV: TrainOptions(
        epochs=12, batch_size=128, learning_rate=4e-3, patience=12, unimodal=2.0, contrastive=0.0
    ),
    CLEAN: TrainOptions(
        epochs=30, batch_size=32, learning_rate=3e-3, patience=30, unimodal=2.0, contrastive=0.0
    ),
}
STUDENT_SHARE = 0.25
TEACHER = "attention"
_KEPT = "outcome.json"
#: Items of the test part that are timed with all contributions, and in all.
_TIMED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """``name``: a fuser, a modality alone, ``concat undropped`` (no modality dropout) or
    ``student``."""

    data: str
    name: str
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.data}-{self.name.replace(' ', '-')}-{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Test figures of a training. ``without``: accuracy with a modality left out. ``ms``: a
    score, with nothing left out, per item; ``ms_explained``: with all contributions."""

    training: Training
    accuracy: float
    calibration_error: float
    without: dict[str, float]
    parameters: int
    ms: float
    ms_explained: float
    seconds: float
    epochs: int


def build_config(name: str) -> FuserConfig:
    """Of a fuser, or of one modality alone."""
    names = (name,) if name in MODALITIES else MODALITIES
    return FuserConfig(
        kind="concat" if name in MODALITIES else _kind(name),
        modalities=tuple(
            ModalityConfig(
                name=each, dimension=128, tower=TowerConfig(input_shape=SHAPES[each], dropout=0.0)
            )
            for each in names
        ),
        width=128,
        depth=1,
        dropout=0.3 if name == "attention" else 0.1,
        classes=CLASSES,
        embedding_dimension=64,
    )


def settings_digest(precision: str) -> str:
    """Of everything that is chosen here: trainings of one digest can stand in for each other."""
    configs = [build_config(name).to_json() for name in (*FUSERS, *MODALITIES)]
    options = [replace(each, augment=AUGMENT).to_json() for each in OPTIONS.values()]
    return hashlib.sha256(
        json.dumps([configs, options, STUDENT_SHARE, TEACHER, precision]).encode()
    ).hexdigest()[:12]


def run(training: Training, folder: Path, source: Path, precision: str) -> Outcome:
    """Train, measure and keep checkpoint and outcome below ``folder``; what is there already is
    only read."""
    own = folder / training.folder
    kept = own / _KEPT
    if kept.exists():
        return Outcome(training=training, **json.loads(kept.read_text()))
    torch.set_num_threads(1)
    data, split = load_set(source, training.data)
    if training.name in MODALITIES:
        data = _only(data, training.name)
    options = replace(
        OPTIONS[training.data],
        seed=training.seed,
        precision=precision,
        augment={
            name: augment
            for name, augment in AUGMENT.items()
            if training.name in {name, *FUSERS, "student"} or training.name.endswith("undropped")
        },
    )
    teacher = None
    if training.name == "student":
        teacher = checkpoint.load(folder / replace(training, name=TEACHER).folder)
        config = smaller(teacher.config, STUDENT_SHARE)
    else:
        config = build_config(training.name.removesuffix(" undropped"))
    if training.name.endswith("undropped"):
        options = replace(options, modality_dropout=0.0)
    # Stopped between checkpoint and outcome: made anew.
    (own / CONFIG_NAME).unlink(missing_ok=True)
    result = train(config, data, options, own, split=split, teacher=teacher)
    ms, ms_explained = _timed(own, data, split)
    report = result.report
    outcome = Outcome(
        training=training,
        accuracy=report.test["accuracy"].value,
        calibration_error=report.test["calibration_error"].value,
        without={name: each["accuracy"].value for name, each in report.without.items()},
        parameters=report.parameters,
        ms=ms,
        ms_explained=ms_explained,
        seconds=sum(each.seconds for each in result.history),
        epochs=report.epochs,
    )
    told = {name: value for name, value in asdict(outcome).items() if name != "training"}
    kept.write_text(json.dumps(told))
    return outcome


def _kind(name: str) -> FuserKind:
    return next(kind for kind in FUSERS if kind == name)


def _only(data: TrainingSet, name: str) -> TrainingSet:
    return replace(
        data,
        items=[replace(item, modalities={name: item.modalities[name]}) for item in data.items],
    )


def _timed(folder: Path, data: TrainingSet, split: Split) -> tuple[float, float]:
    """Milliseconds per item, on one thread, in batches of 64."""
    fuser = checkpoint.load(folder)
    items = [data.items[row] for row in split.test[:_TIMED]]
    begin = time.perf_counter()
    fuser.score(items)
    middle = time.perf_counter()
    fuser.predict(items)
    end = time.perf_counter()
    return (middle - begin) / len(items) * 1e3, (end - middle) / len(items) * 1e3
