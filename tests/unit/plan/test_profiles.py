"""From a profile, settings and a message to every stage's models and parameters."""

from typing import Any

import pytest

from pipeline.config import ProfileOptions, Settings
from pipeline.errors import ConfigurationError
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.graph import STAGES, providers, stages_for
from pipeline.plan.profiles import resolve_plan
from schemas.messages import JobMessage

MESSAGE = JobMessage(sources=("file:///x",))


def settings(**fields: Any) -> Settings:
    return Settings(**fields)


def test_the_offline_profile_names_a_revision_for_every_model() -> None:
    plan = resolve_plan(MESSAGE, settings())
    assert plan.profile == "offline"
    assert plan.stages["vision"].models["vision"].name == "efficientnet-lite0"
    assert plan.stages["speech"].models["speech"].name == "whisper-base"
    assert plan.stages["caption"].models == {}
    assert all(ref.revision for stage in plan.stages.values() for ref in stage.models.values())


def test_the_hub_profile_brings_its_own_label_space_and_captions() -> None:
    plan = resolve_plan(JobMessage(sources=("x",), profile="hub"), settings())
    assert set(plan.stages["fuse"].models) == {"vision", "text", "labels"}
    assert set(plan.stages["caption"].models) == {"caption"}


def test_a_profile_of_the_settings_builds_on_another() -> None:
    own = settings(
        profiles={
            "base": ProfileOptions(parameters={"split": {"min_shot_ms": 700}}),
            "mine": ProfileOptions(
                extends="base",
                models={"ocr": "rapidocr"},
                parameters={"split": {"jpeg_quality": 80}},
            ),
        }
    )
    plan = resolve_plan(JobMessage(sources=("x",), profile="mine"), own)
    assert plan.stages["split"].parameters["min_shot_ms"] == 700
    assert plan.stages["split"].parameters["jpeg_quality"] == 80


def test_a_settings_profile_may_change_a_shipped_one_of_its_name() -> None:
    own = settings(profiles={"offline": ProfileOptions(parameters={"split": {"min_shot_ms": 900}})})
    assert resolve_plan(MESSAGE, own).stages["split"].parameters["min_shot_ms"] == 900


def test_labels_of_the_message_win_over_those_of_the_settings() -> None:
    own = settings(labels=("a", "b"))
    assert resolve_plan(MESSAGE, own).stages["fuse"].parameters["labels"] == ["a", "b"]
    given = JobMessage(sources=("x",), labels=("c", "d"), label_set="letters")
    parameters = resolve_plan(given, own).stages["fuse"].parameters
    assert (parameters["labels"], parameters["label_set_name"]) == (["c", "d"], "letters")


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"profile": "none"}, "there is no profile 'none'; known are: hub, offline"),
        ({"parameters": {"spilt": {}}}, "there is no stage 'spilt'"),
        ({"parameters": {"split": {"speed": 1}}}, "stage split has no parameter 'speed'"),
        ({"parameters": {"split": {"min_shot_ms": "x"}}}, r"split\.min_shot_ms is wrong"),
        ({"parameters": {"split": {"min_shot_ms": -1}}}, "min_shot_ms must be between"),
        ({"parameters": {"fuse": {"taxonomy": "none"}}}, "none"),
        ({"parameters": {"ocr": {"min_confidence": 7}}}, "give a number from 0 to 1"),
    ],
)
def test_what_is_wrong_is_named(message: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        resolve_plan(JobMessage(sources=("x",), **message), settings())


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ({"visoin": "efficientnet-lite0"}, "a profile names a model for 'visoin'; the roles are"),
        ({"vision": "whisper-base"}, "for image-features, whisper-base is one for speech"),
        ({"speech": ""}, "names no model for 'speech'"),
    ],
)
def test_a_model_in_the_wrong_role_is_refused(models: dict[str, str], sentence: str) -> None:
    own = settings(profiles={"mine": ProfileOptions(models=models)})
    with pytest.raises(ConfigurationError, match=sentence):
        resolve_plan(JobMessage(sources=("x",), profile="mine"), own)


def test_profiles_that_extend_each_other_are_refused() -> None:
    own = settings(profiles={"a": ProfileOptions(extends="b"), "b": ProfileOptions(extends="a")})
    with pytest.raises(ConfigurationError, match="extend each other"):
        resolve_plan(JobMessage(sources=("x",), profile="a"), own)


def test_every_input_of_a_stage_is_made_before_it() -> None:
    for kind in ("video", "image", "audio"):
        stages = stages_for(kind, has_audio=kind != "image")
        for position, spec in enumerate(stages):
            before = stages[:position]
            for name in spec.inputs:
                made = providers(name, stages)
                assert all(maker in before for maker in made), (kind, spec.name, name)


def test_what_is_not_there_is_not_planned() -> None:
    assert [spec.name for spec in stages_for("image", has_audio=False)] == [
        "split", "vision", "safety", "ocr", "text", "fuse", "caption",
    ]  # fmt: skip
    assert [spec.name for spec in stages_for("audio", has_audio=True)] == [
        "split", "speech", "sound", "text", "fuse", "caption",
    ]  # fmt: skip
    assert "speech" not in {spec.name for spec in stages_for("video", has_audio=False)}
    assert [spec.name for spec in stages_for("video", has_audio=True)] == list(STAGES)


BASE: dict[str, Any] = {
    "stage": "split",
    "code_version": 1,
    "params": {"a": 1, "b": [1.5, None]},
    "models": {"vision": ("m", "1")},
    "inputs": {"media": "x"},
}


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    turned = {**BASE, "params": {"b": [1.5, None], "a": 1}}
    assert fingerprint(**BASE) == fingerprint(**turned)
    assert len(fingerprint(**BASE)) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "ocr"},
        {"code_version": 2},
        {"params": {"a": 2, "b": [1.5, None]}},
        {"models": {"vision": ("m", "2")}},
        {"models": {"vision": ("n", "1")}},
        {"inputs": {"media": "y"}},
    ],
)
def test_a_fingerprint_changes_with_everything_in_it(change: dict[str, Any]) -> None:
    assert fingerprint(**BASE) != fingerprint(**{**BASE, **change})
