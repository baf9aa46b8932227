from pathlib import Path

import pytest

from bench.fuzz import cases
from bench.fuzz.cases import load, make_case, run_case, save
from bench.fuzz.sources import Source, make_sources
from pipeline.errors import ContractError

SEED = 20
CASES = 40


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    return make_sources(tmp_path_factory.mktemp("fuzz") / "sources")


def test_damaged_files_end_cleanly(sources: list[Source]) -> None:
    """A little of what ``make fuzz-split`` does."""
    faults = {}
    for number in range(CASES):
        case = make_case(SEED, number, sources)
        verdict = run_case(case, sources[0].path)
        if verdict.faults:
            faults[case.recipe] = verdict.faults

    assert faults == {}


def test_sound_files_are_split(sources: list[Source]) -> None:
    """What is damaged is media to begin with."""
    some = sources[::6]
    ended = {source.name: run_case(load(source.path), sources[0].path).ended for source in some}

    assert set(ended.values()) == {"result"}, ended


def test_what_must_not_be_is_seen(sources: list[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    def misbehave(path: Path, *, work_dir: Path, **_: object) -> None:
        (work_dir / "rest.tmp").touch()
        raise ContractError("the two sides disagree")

    monkeypatch.setattr(cases, "split_media", misbehave)

    verdict = run_case(load(sources[0].path), sources[0].path)

    assert verdict.ended == "ContractError"
    assert verdict.faults == ("ContractError: the two sides disagree", "left: rest.tmp")


def test_a_case_is_decided_by_seed_and_number_and_kept(
    sources: list[Source], tmp_path: Path
) -> None:
    case = make_case(SEED, 3, sources)
    verdict = run_case(case, sources[0].path)

    assert make_case(SEED, 3, sources) == case
    assert make_case(SEED, 4, sources) != case
    assert load(save(case, verdict, tmp_path / "kept")) == case
