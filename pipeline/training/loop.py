"""Training a fuser, from labelled items to a checkpoint with its card.

After each epoch the whole state is written; whoever calls :func:`train` again with the same
arguments goes on from there, with the results of a training that was never interrupted: all
randomness of an epoch follows from the seed and the epoch's number.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural import checkpoint
from pipeline.fusion.neural.batches import PackedItems
from pipeline.fusion.neural.caption import train_tokenizer
from pipeline.fusion.neural.config import CONFIG_NAME, FuserConfig
from pipeline.fusion.neural.network import parameter_count
from pipeline.fusion.neural.predict import TrainedFuser
from pipeline.training.calibrate import fit_temperatures
from pipeline.training.card import Figures, Report, write_card
from pipeline.training.data import (
    Split,
    TrainingSet,
    check_labels,
    check_split,
    data_digest,
    split_by_group,
)
from pipeline.training.distill import check_teacher
from pipeline.training.learner import Learner, Material
from pipeline.training.measure import choices, figures, look
from pipeline.training.options import TrainOptions
from pipeline.training.state import STATE, load_state, save_state
from pipeline.training.targets import build_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """An epoch that is done: its number from 1, of at most ``epochs``.

    ``loss``: the mean over the epoch. ``score``: of the validation part, the mean of accuracy and
    mean average precision as far as there are classes and tags; ``None`` without such a part.
    """

    epoch: int
    epochs: int
    loss: float
    score: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished training. ``digest``: of the checkpoint. ``data_digest``: of what it saw."""

    folder: Path
    digest: str
    data_digest: str
    report: Report
    history: tuple[Progress, ...]


def train(
    config: FuserConfig,
    data: TrainingSet,
    options: TrainOptions,
    folder: Path,
    *,
    split: Split | None = None,
    teacher: TrainedFuser | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    device: str = "cpu",
) -> Result:
    """Train a fuser and write its checkpoint to ``folder``, or go on with what was begun there.

    ``split``: :func:`split_by_group` by default. ``teacher``: a trained fuser of the same labels
    that is imitated, see :class:`TrainOptions`. ``on_progress``: called after each epoch, when
    its state is written; an exception from it ends the training, which can be gone on with.
    Items without any modality are not learned from. Uses torch's random numbers, so two trainings
    in one process must not run at the same time.

    Raises:
        ConfigurationError: the set, the split or the options do not fit; the folder holds a
            trained fuser, or a training with other arguments.
        ContractError: an item does not fit the configuration.
    """
    split = split or split_by_group(data.groups)
    check_split(data, split)
    check_labels(data, split, config)
    _check_augment(config, options)
    if teacher is not None:
        check_teacher(teacher, config)
    if (folder / CONFIG_NAME).exists():
        raise ConfigurationError(
            f"{folder} holds a trained fuser already; give another folder, or delete it"
        )
    digest = data_digest(data, split)
    tokenizer = None
    if config.caption is not None:
        texts = [data.captions[row] for row in split.train]
        tokenizer = train_tokenizer([text for text in texts if text], config.caption)
    material = Material(
        packed=PackedItems(data.items, config),
        targets=build_targets(data, config, tokenizer),
        train=torch.tensor([row for row in split.train if data.items[row].modalities]),
        validation=torch.tensor(
            [row for row in split.validation if data.items[row].modalities], dtype=torch.int64
        ),
    )
    if not len(material.train):
        raise ConfigurationError("no item of the training part has any modality; analyse them")
    identity = _identity(config, options, digest, teacher)
    with torch.random.fork_rng(devices=[]):
        learner = Learner(config, options, material, teacher, torch.device(device))
        history = _go_on(learner, folder, identity)
        _epochs(learner, history, folder, identity, on_progress)
    learner.take_best()
    report = _finish(learner, data, split, history)
    card = write_card(config, data, split, options, report, digest)
    found = checkpoint.save(folder, learner.network, card=card, tokenizer=tokenizer)
    (folder / STATE).unlink(missing_ok=True)
    return Result(
        folder=folder,
        digest=found,
        data_digest=digest,
        report=report,
        history=tuple(history),
    )


def _epochs(
    learner: Learner,
    history: list[Progress],
    folder: Path,
    identity: dict[str, str],
    on_progress: Callable[[Progress], None] | None,
) -> None:
    epochs = learner.options.epochs
    while len(history) < epochs and not learner.is_stuck(len(history)):
        begin = time.monotonic()
        epoch = len(history) + 1
        loss = learner.epoch(epoch)
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"the loss of epoch {epoch} is {loss}; use a lower learning rate than "
                f"{learner.options.learning_rate:g}"
            )
        score = learner.judge(epoch)
        seconds = time.monotonic() - begin
        history.append(
            Progress(epoch=epoch, epochs=epochs, loss=loss, score=score, seconds=seconds)
        )
        header = {
            "identity": identity,
            "history": [asdict(each) for each in history],
            "best": list(learner.best),
        }
        save_state(folder, learner.tensors(), header)
        if on_progress is not None:
            on_progress(history[-1])


def _go_on(learner: Learner, folder: Path, identity: dict[str, str]) -> list[Progress]:
    begun = load_state(folder)
    if begun is None:
        return []
    tensors, header = begun
    other = [what for what, value in identity.items() if header["identity"].get(what) != value]
    if other:
        raise ConfigurationError(
            f"the training in {folder} was begun with other {' and '.join(other)}; go on with "
            f"those, give another folder, or delete {STATE} there"
        )
    learner.restore(tensors, header["best"])
    return [Progress(**each) for each in header["history"]]


def _identity(
    config: FuserConfig, options: TrainOptions, digest: str, teacher: TrainedFuser | None
) -> dict[str, str]:
    """Everything that must not change while a training is interrupted."""
    taught_by = "nobody"
    if teacher is not None:
        total = hashlib.sha256(teacher.config.to_json().encode())
        for value in teacher.network.state_dict().values():
            total.update(value.cpu().contiguous().numpy().tobytes())
        taught_by = total.hexdigest()
    return {
        "configuration": config.to_json(),
        "options": options.to_json(),
        "data": digest,
        "teacher": taught_by,
    }


def _finish(learner: Learner, data: TrainingSet, split: Split, history: list[Progress]) -> Report:
    """Calibrate, and measure on the test part with every modality and without each."""
    network, material, names = learner.network, learner.material, learner.config.modality_names
    validation: Figures = {}
    test: Figures = {}
    without: dict[str, Figures] = {}
    if len(material.validation):
        seen = look(network, material.packed, material.validation, choices(names), learner.device)
        truth = material.targets.rows(material.validation, torch.device("cpu"))
        fit_temperatures(network, [(each, truth) for each in seen])
        groups = [data.groups[row] for row in material.validation.tolist()]
        validation = figures(network, seen[0], truth, groups)
    if split.test:
        rows = torch.tensor(split.test)
        hidden = [frozenset[str](), *(frozenset({name}) for name in names if len(names) > 1)]
        truth = material.targets.rows(rows, torch.device("cpu"))
        groups = [data.groups[row] for row in split.test]
        test, *others = (
            figures(network, seen, truth, groups)
            for seen in look(network, material.packed, rows, hidden, learner.device)
        )
        without = dict(zip(names, others, strict=False))
    return Report(
        epochs=len(history),
        best_epoch=learner.best_epoch or len(history),
        parameters=parameter_count(network),
        calibrated=bool(len(material.validation)),
        validation=validation,
        test=test,
        without=without,
    )


def _check_augment(config: FuserConfig, options: TrainOptions) -> None:
    with_towers = {each.name for each in config.modalities if each.tower is not None}
    unknown = sorted(set(options.augment) - with_towers)
    if unknown:
        raise ConfigurationError(
            f"the options vary the inputs of {unknown[0]}, which has no tower; use feature_noise "
            "for stored features"
        )
