"""The model card says what the fuser was trained on and how good it is."""

from dataclasses import replace
from pathlib import Path

from fusion_sets import small_config, xor_set

from pipeline.training.data import Split, data_digest
from pipeline.training.loop import train
from pipeline.training.options import TrainOptions


def test_what_a_card_says(tmp_path: Path) -> None:
    data = replace(xor_set(), name="two bits", licence="CC0-1.0")
    split = Split(
        train=tuple(range(100)), validation=tuple(range(100, 130)), test=tuple(range(130, 160))
    )
    options = TrainOptions(epochs=2)
    result = train(small_config(), data, options, tmp_path, split=split)
    card = (tmp_path / "README.md").read_text()
    head = card.split("---\n")[1]
    assert 'license: "CC0-1.0"' in head
    assert f'data_sha256: "{data_digest(data, split)}"' in head
    assert f"checkpoint_sha256: {result.digest}" in head
    assert result.data_digest == data_digest(data, split)
    assert "two bits for 2 epochs" in card
    assert "Rows: 100 train, 30 validation, 30 test, of 80 assets" in card
    odd = sum(name == "odd" for name in data.classes[:100])
    assert f"| class odd | {odd} |" in card
    accuracy = result.report.test["accuracy"]
    less = [result.report.without[name]["accuracy"] for name in "ab"]
    assert f"| accuracy: {accuracy} | {less[0]} | {less[1]} |" in card
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert "Scores are calibrated" in card
    assert options.to_json() in card
