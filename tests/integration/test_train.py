"""`mediaweave train` and `evaluate` on stored features, and the fuser at work afterwards."""

import json
import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command import Cli
from sqlalchemy import insert, text

from pipeline.db import results
from pipeline.db.engine import open_database
from schemas import tables

SIDE = 64
OF_EACH = 8


def pictures(folder: Path) -> dict[str, str]:
    """Path to label: stripes and discs, in colours that say nothing."""
    folder.mkdir()
    found = {}
    random = np.random.default_rng(0)
    for number in range(OF_EACH):
        for label in ("stripes", "disc"):
            picture = np.full((SIDE, SIDE, 3), random.integers(0, 120, 3), np.uint8)
            colour = random.integers(130, 256, 3).tolist()
            if label == "stripes":
                picture[:: 4 + number % 3] = colour
            else:
                cv2.circle(picture, (SIDE // 2, SIDE // 2), 14 + number, colour, -1)
            path = folder / f"{label}-{number}.png"
            assert cv2.imwrite(str(path), picture)
            found[str(path)] = label
    return found


def label_file(path: Path, labels: dict[str, str]) -> str:
    lines = ["uri,start,end,label", *(f"{uri},,,{label}" for uri, label in labels.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, dict[str, str]]:
    folder = tmp_path_factory.mktemp("train")
    labels = pictures(folder / "pictures")
    cli = Cli(folder=folder, settings={"MEDIAWEAVE_CACHE_DIR": str(folder / "cache")})
    result = cli("run", str(folder / "pictures"))
    assert result.code == 0, result.err
    return cli, labels


def test_from_labels_to_a_fuser_at_work(analysed: tuple[Cli, dict[str, str]]) -> None:
    cli, labels = analysed
    file = label_file(cli.folder / "labels.csv", labels)
    train = ("train", "--labels", file, "--task", "class", "--fuser", "concat", "--epochs", "12")

    first = cli(*train, "--name", "shapes", "--json")
    assert first.code == 0, first.err
    made: dict[str, Any] = first.json
    card = (Path(made["folder"]) / "README.md").read_text(encoding="utf-8")
    assert f'data_sha256: "{made["data_sha256"]}"' in card
    again = cli(*train, "--name", "shapes", "--licence", "CC-BY-4.0", "--json").json
    assert (again["revision"], again["is_new"]) == (made["revision"], False)
    assert again["calibrated"] == bool(again["test"]) is True
    card = (Path(made["folder"]) / "README.md").read_text(encoding="utf-8")
    assert 'license: "CC-BY-4.0"' in card
    known = cli("sql", "--json", "SELECT revision, licence FROM model WHERE name = 'shapes'").json
    assert known == [{"revision": made["revision"], "licence": "CC-BY-4.0"}]

    told = cli("evaluate", made["folder"], "--labels", file, "--task", "class", "--part", "all",
               "--json")  # fmt: skip
    assert told.code == 0, told.err
    assert told.json["shots"] == 2 * OF_EACH
    assert told.json["figures"][made["folder"]]["accuracy"]["value"] >= 0.9

    settings = {
        **cli.settings,
        "MEDIAWEAVE_PROFILE": "mine",
        "MEDIAWEAVE_MODELS": json.dumps(
            {"shapes": {"implementation": "fuser", "path": made["folder"]}}
        ),
        "MEDIAWEAVE_PROFILES": json.dumps({"mine": {"models": {"fuser": "shapes"}}}),
    }
    mine = Cli(folder=cli.folder, settings=settings)
    assert mine("run", str(cli.folder / "pictures")).code == 0
    rows = mine(
        "sql",
        "--json",
        "SELECT uri, class, model, model_revision FROM v_classifications WHERE taxonomy = 'shapes'",
    ).json
    assert {(row["model"], row["model_revision"]) for row in rows} == {("shapes", made["revision"])}
    right = [row["class"] == labels[row["uri"].removeprefix("file://")] for row in rows]
    assert len(right) == 2 * OF_EACH
    assert np.mean(right) >= 0.9
    stages = mine(
        "sql",
        "--json",
        "SELECT DISTINCT stage FROM v_stage_runs WHERE job_id = 2 AND stage <> 'expand'",
    ).json
    assert {row["stage"] for row in stages} <= {"fuse", "caption"}

    taught = mine(*train, "--name", "small", "--distill-from", "shapes", "--share", "0.3", "--json")
    assert taught.code == 0, taught.err
    assert taught.json["parameters"] <= 0.3 * made["parameters"]
    both = mine("evaluate", "shapes", taught.json["folder"], "--labels", file, "--task", "class",
                "--part", "all", "--json")  # fmt: skip
    assert set(both.json["differences"]) == {"accuracy"}
    assert 0 <= both.json["differences"]["accuracy"]["p_value"] <= 1


def test_a_fuser_that_is_in_use_is_trained_again(
    analysed: tuple[Cli, dict[str, str]], tmp_path: Path
) -> None:
    cli, labels = analysed
    file = label_file(tmp_path / "labels.csv", labels)
    train = ("train", "--labels", file, "--task", "class", "--name", "used", "--fuser", "late")
    first = cli(*train, "--epochs", "2", "--licence", 'CC "BY"')
    assert first.code == 0, first.err
    said = tomllib.loads(first.out[first.out.index("profile =") :])
    assert said["profiles"]["used"] == {"extends": "offline", "models": {"fuser": "used"}}
    assert said["models"]["used"]["licence"] == 'CC "BY"'
    settings = {
        **cli.settings,
        "MEDIAWEAVE_PROFILE": said["profile"],
        "MEDIAWEAVE_MODELS": json.dumps(said["models"]),
        "MEDIAWEAVE_PROFILES": json.dumps(said["profiles"]),
    }
    using = Cli(folder=cli.folder, settings=settings)
    again = using(*train, "--epochs", "3")
    assert again.code == 0, again.err
    printed = tomllib.loads(again.out[again.out.index("profile =") :])
    assert printed["profiles"] == said["profiles"]
    assert printed["models"]["used"]["path"] != said["models"]["used"]["path"]


def test_labels_beyond_the_end_of_their_asset(
    analysed: tuple[Cli, dict[str, str]], tmp_path: Path
) -> None:
    cli, labels = analysed
    file = label_file(tmp_path / "labels.csv", labels)
    uri = next(iter(labels))
    with Path(file).open("a", encoding="utf-8") as more:
        more.write(f"{uri},5,6,lost\n")
    train = ("train", "--labels", file, "--name", "late", "--fuser", "late", "--epochs", "1")
    refused = cli(*train)
    assert refused.code == 2
    sentence = (
        f"1 of the labels cover no shot of their asset; the first is in line {len(labels) + 2}: "
        f"{uri} ends at 0.000 s"
    )
    assert f"{sentence}: correct the times" in refused.err
    taken = cli(*train, "--skip-unknown")
    assert taken.code == 0, taken.err
    assert f"mediaweave: left out: {sentence}" in taken.err


def test_corrections_of_people_are_labels_too(
    analysed: tuple[Cli, dict[str, str]],
) -> None:
    cli, labels = analysed
    nothing = cli("train", "--corrections", "--name", "fixed")
    assert nothing.code == 2
    assert "there is nothing to learn from" in nothing.err
    database = open_database(f"sqlite:///{cli.folder / 'data' / 'mediaweave.db'}")

    def verdict(uri: str, name: str) -> str:
        return "right" if labels[uri.removeprefix("file://")] == name else "wrong"

    with database.transaction() as connection:
        ids = results.name_ids(connection, tables.label, sorted(set(labels.values())))
        rows = connection.execute(text("SELECT asset_id, uri FROM v_assets")).all()
        connection.execute(
            insert(tables.correction),
            [
                {
                    "asset_id": row.asset_id,
                    "label_id": ids[name],
                    "verdict": verdict(row.uri, name),
                    "author": "ana",
                }
                for row in rows
                for name in ids
            ],
        )
    database.close()
    trained = cli("train", "--corrections", "--name", "fixed", "--fuser", "late", "--json")
    assert trained.code == 0, trained.err
    told = cli("evaluate", trained.json["folder"], "--corrections", "--part", "all", "--json")
    assert told.json["shots"] == 2 * OF_EACH
    (figures,) = told.json["figures"].values()
    assert figures["mean_average_precision"]["value"] >= 0.9


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"/nowhere/at/all.png": "disc"}, (), "1 of the labelled uris are not in the database"),
        ({}, ("--name", "../up"), "cannot be the name of a fuser"),
        ({}, ("--name", "minilm"), "a model is called so"),
        ({}, ("--distill-from", "nobody"), "there is no fuser 'nobody'"),
        ({}, ("--mixup", "11"), "the mixup of training is 11"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    analysed: tuple[Cli, dict[str, str]],
    tmp_path: Path,
    changes: dict[str, str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    cli, labels = analysed
    file = label_file(tmp_path / "labels.csv", labels | changes)
    result = cli("train", "--labels", file, "--task", "class", "--name", "x", *arguments)
    assert result.code == 2, result.out
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1, result.err


def test_labels_of_one_class_teach_nothing(
    analysed: tuple[Cli, dict[str, str]], tmp_path: Path
) -> None:
    cli, labels = analysed
    file = label_file(tmp_path / "labels.csv", dict.fromkeys(labels, "thing"))
    result = cli("train", "--labels", file, "--task", "class", "--name", "x")
    assert result.code == 2
    assert "'thing'" in result.err
    several = label_file(tmp_path / "several.csv", labels)
    uri = next(iter(labels))
    Path(several).write_text(Path(several).read_text() + f"{uri},,,other\n", encoding="utf-8")
    result = cli("train", "--labels", several, "--task", "class", "--name", "x")
    assert result.code == 2
    assert "give each shot one, or train --task tags" in result.err
