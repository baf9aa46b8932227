"""Training sets and their parts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fusion_sets import small_config, vectors, xor_set

from pipeline.errors import ConfigurationError
from pipeline.fusion.neural.items import FusionItem
from pipeline.training.data import (
    Split,
    TrainingSet,
    check_labels,
    check_split,
    data_digest,
    split_by_group,
)


def test_an_asset_stays_in_its_part_whatever_else_there_is() -> None:
    groups = [f"asset {row // 3}" for row in range(900)]
    split = split_by_group(groups)
    parts = [{groups[row] for row in rows} for rows in (split.train, split.validation, split.test)]
    assert sum(len(part) for part in parts) == 300
    assert len(parts[0] | parts[1] | parts[2]) == 300
    assert [len(part) for part in parts] == pytest.approx([210, 45, 45], abs=20)
    grown = split_by_group([*groups, *(f"new {row}" for row in range(500))])
    assert set(split.test) == {row for row in grown.test if row < len(groups)}
    assert split_by_group(groups) == split
    assert split_by_group(groups, salt="other").test != split.test


def test_shares_of_a_split() -> None:
    assert split_by_group(["a", "b"], shares=(1, 0, 0)).train == (0, 1)
    with pytest.raises(ConfigurationError, match="sum to 1"):
        split_by_group(["a"], shares=(0.5, 0.2, 0.2))
    with pytest.raises(ConfigurationError, match="none of 1 assets falls into the training part"):
        split_by_group(["a"], shares=(1e-9, 0.5, 0.5 - 1e-9))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (Split(train=()), "training part is empty"),
        (Split(train=(0, 1), test=(160,)), "rows 0 to 160, and the set has 160"),
        (Split(train=(0, 1), test=(4, 4)), "names row 4 twice"),
        (Split(train=(0,), test=(1,)), "asset asset 0 is in the parts train and test"),
    ],
)
def test_splits_that_do_not_fit(split: Split, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_split(xor_set(), split)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"items": (), "groups": ()}, "is empty"),
        ({"groups": ("a",)}, "160 items and 1 groups"),
        ({"classes": ("odd",)}, "160 items and 1 classes"),
    ],
)
def test_sets_that_do_not_fit(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        replace(xor_set(), **change)


def test_labels_that_do_not_fit() -> None:
    data, split = xor_set(), Split(train=tuple(range(100)), test=tuple(range(100, 160)))
    check_labels(data, split, small_config())
    with pytest.raises(ConfigurationError, match="class 'even', which the fuser's"):
        check_labels(data, split, small_config(classes=("odd", "other")))
    with pytest.raises(ConfigurationError, match="tag 'loud', which the fuser's"):
        check_labels(data, split, small_config(tags=("bright",)))
    with pytest.raises(ConfigurationError, match="knows the one class 'odd'"):
        check_labels(replace(data, classes=["odd"] * 160), split, small_config())
    only_tested = [None] * 100 + list(data.classes[100:])
    with pytest.raises(ConfigurationError, match="has no classes"):
        check_labels(replace(data, classes=only_tested), split, small_config())
    with pytest.raises(ConfigurationError, match="has no tags"):
        check_labels(replace(data, tags=()), split, small_config())
    everywhere = [frozenset({"bright"}), None, frozenset({"bright", "loud"})] * 34
    with pytest.raises(ConfigurationError, match=r"all 67 labelled rows .* the tag 'bright'"):
        check_labels(replace(data, tags=[*everywhere, *data.tags[102:]]), split, small_config())


def test_the_digest_tells_sets_apart() -> None:
    data, split = xor_set(), Split(train=tuple(range(160)))
    same = data_digest(xor_set(), split)
    assert data_digest(data, split) == same
    items = list(data.items)
    items[7] = FusionItem(modalities={"a": vectors(np.zeros(6))})
    changed: list[TrainingSet] = [
        replace(data, items=items),
        replace(data, groups=["x", "x", *data.groups[2:]]),
        replace(data, classes=["odd" if data.classes[0] == "even" else "even", *data.classes[1:]]),
        replace(data, tags=[None, *data.tags[1:]]),
    ]
    digests = {same, *(data_digest(each, split) for each in changed)}
    digests.add(data_digest(data, Split(train=tuple(range(158)), test=(158, 159))))
    assert len(digests) == 6
