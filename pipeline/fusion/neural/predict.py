"""A trained fuser at work: calibrated scores, and by exact occlusion what they rest on.

Every contribution is a score without something: a modality left out, or a single token. All those
variants of a batch share the features of its tokens and go through the second half of the network
together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from pipeline.errors import ContractError
from pipeline.fusion.neural.base import Encoded, FusionNetwork
from pipeline.fusion.neural.batches import PackedItems
from pipeline.fusion.neural.caption import CaptioningNetwork
from pipeline.fusion.neural.items import FusionItem
from schemas.records import FloatArray

#: Items whose tokens are encoded together, and variants that are fused together.
_ITEMS = 64
_VARIANTS = 256
#: Contributions that differ by less are equal, and the first token is named: float rounding
#: depends on a batch's shape, and the answer for an item must not.
_TIE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRef:
    """A token of an item: its modality, and its index there."""

    modality: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskScores:
    """Calibrated probabilities: ``tags`` ``(n_tags,)`` one by one, ``classes`` ``(n_classes,)``
    that sum to 1 (empty where the fuser has none), float32."""

    tags: FloatArray
    classes: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What a fuser says of one item.

    ``tag_scores`` ``(n_tags,)``, ``class_scores`` ``(n_classes,)``: as in :class:`TaskScores`.
    ``embedding``: float32 ``(embedding_dimension,)``, L2-normalised.
    ``present``: the item's modalities, in the fuser's order.
    ``without``: the scores with that modality left out; ``None`` where nothing is left then.
    ``alone``: the scores with that modality only.
    ``loudest_tags``, ``loudest_class``: for each tag and for the winning class, the token whose
    removal lowers the score most; ``None`` where no removal lowers it (and where there are no
    classes).
    """

    tag_scores: FloatArray
    class_scores: FloatArray
    embedding: FloatArray
    present: tuple[str, ...]
    without: Mapping[str, TaskScores | None]
    alone: Mapping[str, TaskScores]
    loudest_tags: tuple[TokenRef | None, ...]
    loudest_class: TokenRef | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """Item ``row`` of a batch without one modality (``token`` is ``None``), without one token of
    it, or with nothing else (``is_only``)."""

    row: int
    modality: str
    token: int | None = None
    is_only: bool = False

    @property
    def key(self) -> "_Key":
        return self.modality, self.token, self.is_only


_Key = tuple[str, int | None, bool]


class TrainedFuser:
    """A network in evaluation mode on its device, with the tokenizer of its captions.

    Calls change nothing in it, so threads may share it.
    """

    def __init__(
        self,
        network: FusionNetwork,
        tokenizer: Tokenizer | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = network.config
        self._device = torch.device(device)
        self.network = network.eval().requires_grad_(False).to(self._device)
        self._tokenizer = tokenizer

    @torch.inference_mode()
    def predict(self, items: Sequence[FusionItem]) -> list[Prediction | None]:
        """One prediction per item, in order; ``None`` for an item without any modality.

        An item's answer does not depend on its neighbours, beyond float rounding.

        Raises:
            ContractError: an item does not fit the configuration, or an output is not finite.
        """
        found: list[Prediction | None] = [None] * len(items)
        for at, encoded in self._encoded(items):
            for index, prediction in zip(at, self._predict(encoded), strict=True):
                found[index] = prediction
        return found

    @torch.inference_mode()
    def score(self, items: Sequence[FusionItem]) -> list[TaskScores | None]:
        """The scores of :meth:`predict` without what they rest on, at a fraction of its cost.

        Raises:
            ContractError: as :meth:`predict`.
        """
        found: list[TaskScores | None] = [None] * len(items)
        for at, encoded in self._encoded(items):
            tags, classes, _ = self._scores(encoded)
            for index, own_tags, own_classes in zip(at, tags, classes, strict=True):
                found[index] = TaskScores(tags=own_tags, classes=own_classes)
        return found

    @torch.inference_mode()
    def caption(self, items: Sequence[FusionItem]) -> list[str | None]:
        """One sentence per item, by greedy decoding; ``None`` for an item without any modality.

        Raises:
            ContractError: the fuser writes no captions, or an item does not fit it.
        """
        if not isinstance(self.network, CaptioningNetwork) or self._tokenizer is None:
            raise ContractError("captions were asked of a fuser that was trained without them")
        found: list[str | None] = [None] * len(items)
        size = self._tokenizer.get_vocab_size()
        for at, encoded in self._encoded(items):
            rows = self.network.write(self.network.fuse(encoded), size)
            for index, ids in zip(at, rows, strict=True):
                found[index] = self._tokenizer.decode(ids).strip()
        return found

    def _encoded(self, items: Sequence[FusionItem]) -> Iterator[tuple[list[int], Encoded]]:
        """Batches of the items that have any modality: their indices and their features."""
        some = [at for at, item in enumerate(items) if item.modalities]
        packed = PackedItems([items[at] for at in some], self.config)
        for start in range(0, len(some), _ITEMS):
            indices = torch.arange(start, min(start + _ITEMS, len(some)))
            batch = packed.batch(indices, self._device)
            yield [some[at] for at in indices.tolist()], self.network.encode(batch)

    def _predict(self, encoded: Encoded) -> list[Prediction]:
        counts = {name: each.mask.sum(dim=1).tolist() for name, each in encoded.tokens.items()}
        variants = _variants(counts)
        n_items = len(next(iter(counts.values())))
        tags, classes, embeddings = self._scores(encoded)
        rows = torch.tensor([variant.row for variant in variants], dtype=torch.int64)
        parts = [
            self._scores(_left_out(encoded, rows[at : at + _VARIANTS], variants[at:]))[:2]
            for at in range(0, len(variants), _VARIANTS)
        ]
        left_out: list[dict[_Key, int]] = [{} for _ in range(n_items)]
        for at, variant in enumerate(variants):
            left_out[variant.row][variant.key] = at
        variant_tags = np.concatenate([tags[:0], *(part[0] for part in parts)])
        variant_classes = np.concatenate([classes[:0], *(part[1] for part in parts)])
        return [
            _prediction(
                own={name: row[at] for name, row in counts.items() if row[at]},
                scores=TaskScores(tags=tags[at], classes=classes[at]),
                embedding=embeddings[at],
                variants={
                    key: TaskScores(tags=variant_tags[v], classes=variant_classes[v])
                    for key, v in left_out[at].items()
                },
            )
            for at in range(n_items)
        ]

    def _scores(self, encoded: Encoded) -> tuple[FloatArray, FloatArray, FloatArray]:
        outputs = self.network.fuse(encoded)
        logits = self.network.calibrated(outputs.logits, encoded.present())
        tags = torch.sigmoid(logits.tags.double())
        classes = torch.softmax(logits.classes.double(), dim=-1)
        return (
            _finite("tag scores", tags),
            _finite("class scores", classes),
            _finite("embeddings", outputs.embedding),
        )


def _variants(counts: Mapping[str, list[int]]) -> list[_Variant]:
    """Everything that can be left out of the items while something remains.

    The only token of a modality is the modality: it is left out once. Of two modalities, the one
    alone is what remains without the other.
    """
    found = []
    for row in range(len(next(iter(counts.values())))):
        own = {name: each[row] for name, each in counts.items() if each[row]}
        for name, count in own.items():
            if len(own) > 1:
                found.append(_Variant(row=row, modality=name))
            if len(own) > 2:
                found.append(_Variant(row=row, modality=name, is_only=True))
            if count > 1:
                found += [_Variant(row=row, modality=name, token=at) for at in range(count)]
    return found


def _left_out(encoded: Encoded, rows: Tensor, variants: Sequence[_Variant]) -> Encoded:
    keep = {
        name: torch.ones((len(rows), each.mask.shape[1]), dtype=torch.bool)
        for name, each in encoded.tokens.items()
    }
    for at, variant in enumerate(variants[: len(rows)]):
        if variant.is_only:
            for name in keep.keys() - {variant.modality}:
                keep[name][at] = False
        else:
            which = slice(None) if variant.token is None else variant.token
            keep[variant.modality][at, which] = False
    device = next(iter(encoded.tokens.values())).mask.device
    taken = encoded.rows(rows.to(device))
    return taken.masked({name: mask.to(device) for name, mask in keep.items()})


def _prediction(
    *,
    own: Mapping[str, int],
    scores: TaskScores,
    embedding: FloatArray,
    variants: Mapping[_Key, TaskScores],
) -> Prediction:
    refs = [TokenRef(modality=name, index=at) for name, n in own.items() for at in range(n)]
    lesser = [
        variants.get((ref.modality, ref.index if own[ref.modality] > 1 else None, False))
        for ref in refs
    ]
    # Where nothing is left, nothing of the score is.
    tag_drops = np.stack([scores.tags - (0 if one is None else one.tags) for one in lesser])
    loudest_class = None
    if len(scores.classes):
        winner = int(scores.classes.argmax())
        drops = [scores.classes[winner] - (0 if v is None else v.classes[winner]) for v in lesser]
        loudest_class = _loudest(np.array(drops), refs)
    return Prediction(
        tag_scores=scores.tags,
        class_scores=scores.classes,
        embedding=embedding,
        present=tuple(own),
        without={name: variants.get((name, None, False)) for name in own},
        alone={name: _alone(name, list(own), scores, variants) for name in own},
        loudest_tags=tuple(_loudest(column, refs) for column in tag_drops.T),
        loudest_class=loudest_class,
    )


def _alone(
    name: str, own: Sequence[str], scores: TaskScores, variants: Mapping[_Key, TaskScores]
) -> TaskScores:
    if len(own) == 1:
        return scores
    if len(own) == 2:
        return variants[own[1 - own.index(name)], None, False]
    return variants[name, None, True]


def _loudest(drops: FloatArray, refs: Sequence[TokenRef]) -> TokenRef | None:
    most = drops.max()
    return refs[int(np.argmax(drops >= most - _TIE))] if most > _TIE else None


def _finite(what: str, values: Tensor) -> FloatArray:
    if not torch.isfinite(values).all():
        raise ContractError(f"a fuser's {what} are not finite; its weights or inputs are broken")
    return np.asarray(values.cpu().numpy(), dtype=np.float32)
