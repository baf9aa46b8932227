"""The hub models by name, and how a user brings another one.

Revisions are pinned to commits that hold safetensors weights (Salesforce's smaller BLIP has none,
hence the large one). Nothing is fetched unless ``local_files_only`` is switched off: fetch a model
beforehand with ``hf download REPOSITORY --revision COMMIT``, or give a folder.

Importing this module imports neither torch nor transformers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.models.base import UNKNOWN_LICENCE, ModelInfo, Task
from pipeline.models.entry import JSON, ModelEntry
from pipeline.models.hub.digest import checkpoint_digest

#: Part of every revision: raise it when the code here changes what the same weights answer.
CODE_VERSION = 2

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PACKAGE = "pipeline.models.hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Implementation:
    """``options`` maps an option to its type; those in ``shaping`` change what comes out.

    ``max_batch``: the default of that option. ``space``: prefix of the vector space's name, where
    vectors come out.
    """

    task: Task
    factory: str
    max_batch: int
    space: str | None = None
    shaping: Mapping[str, type] = field(default_factory=dict)
    options: Mapping[str, type] = field(default_factory=dict)


#: Of models that make one vector of one item (:mod:`pipeline.models.hub.encoder`).
_ENCODER: Mapping[str, type] = {"runtime": str, "cache_dir": str}

_IMPLEMENTATIONS: Mapping[str, _Implementation] = {
    "image-text": _Implementation(
        task="image-features",
        factory=f"{_PACKAGE}.image_text:ImageTextImages",
        max_batch=32,
        space="image-text",
        options=_ENCODER,
    ),
    "image-text-labels": _Implementation(
        task="text-embedding",
        factory=f"{_PACKAGE}.image_text:ImageTextLabels",
        max_batch=64,
        space="image-text",
        options=_ENCODER,
    ),
    "caption": _Implementation(
        task="caption",
        factory=f"{_PACKAGE}.caption:Captioner",
        max_batch=16,
        shaping={"max_new_tokens": int},
    ),
    "vlm-caption": _Implementation(
        task="caption",
        factory=f"{_PACKAGE}.vlm:VisionLanguageCaptioner",
        max_batch=8,
        shaping={"max_new_tokens": int, "max_images": int},
    ),
    "vlm-question": _Implementation(
        task="question",
        factory=f"{_PACKAGE}.vlm:VisionLanguageAnswerer",
        max_batch=8,
        shaping={"max_new_tokens": int, "max_images": int},
    ),
    "question": _Implementation(
        task="question",
        factory=f"{_PACKAGE}.vqa:BlipAnswerer",
        max_batch=16,
        shaping={"max_new_tokens": int, "max_images": int},
    ),
    "speech": _Implementation(
        task="speech",
        factory=f"{_PACKAGE}.speech:SpeechRecogniser",
        max_batch=4,
        shaping={"max_new_tokens": int, "language": str, "word_times": bool},
        options={"window_batch": int},
    ),
    "sentence": _Implementation(
        task="text-embedding",
        factory=f"{_PACKAGE}.sentence:SentenceEncoder",
        max_batch=64,
        space="sentence",
        options=_ENCODER,
    ),
    # What `mediaweave train` writes.
    "fuser": _Implementation(
        task="fusion", factory="pipeline.fusion.neural.model:FuserModel", max_batch=64
    ),
    "audio-classes": _Implementation(
        task="sound-events",
        factory=f"{_PACKAGE}.sound:SoundClasses",
        max_batch=8,
    ),
    "audio-text": _Implementation(
        task="sound-events",
        factory=f"{_PACKAGE}.sound:AudioTextSounds",
        max_batch=8,
        space="audio-text",
    ),
    "audio-text-labels": _Implementation(
        task="text-embedding",
        factory=f"{_PACKAGE}.sound:AudioTextLabels",
        max_batch=64,
        space="audio-text",
    ),
}
_SHAPING: Mapping[str, type] = {"dtype": str}
_OPTIONS: Mapping[str, type] = {
    "local_files_only": bool,
    "max_batch": int,
    "threads": int,
    "compile": bool,
}


def from_settings(
    name: str,
    *,
    implementation: str,
    path: str,
    revision: str | None = None,
    licence: str = UNKNOWN_LICENCE,
    options: Mapping[str, JSON] | None = None,
    weights_bytes: int | None = None,
) -> ModelEntry:
    """A model of the user's own, or another revision or copy of a known one.

    ``path`` is a folder or a hub repository (``owner/name``). A repository needs a ``revision``;
    without one a folder's is the digest of its files, so that changed weights are a new model.
    ``options`` go to the model's class: ``dtype``, ``local_files_only``, ``max_batch``,
    ``threads``, ``compile``; ``runtime`` and ``cache_dir`` (encoders); ``max_new_tokens``
    (captions, questions, speech); ``max_images`` (questions and the captions of a vision-language
    model); ``language``, ``word_times`` and ``window_batch`` (speech).
    Those that change what comes out become part of the revision; one that is ``None`` counts as
    not given. ``weights_bytes``: size of the weights, where it is known; a folder's is measured.

    Raises:
        ConfigurationError: the implementation or an option is unknown, or a repository has no
            revision.
        ModelUnavailableError: the folder has no weights.
    """
    kind = _IMPLEMENTATIONS.get(implementation)
    if kind is None:
        raise ConfigurationError(
            f"model {name} has implementation {implementation!r}; use one of "
            f"{', '.join(_IMPLEMENTATIONS)}"
        )
    given = {key: value for key, value in (options or {}).items() if value is not None}
    _check_options(name, kind, given)
    folder = Path(path).expanduser()
    is_folder = folder.is_dir() or folder.is_absolute() or path.startswith((".", "~"))
    digest = None
    if revision is None:
        if not is_folder:
            raise ConfigurationError(
                f"model {name} comes from the repository {path} without a revision; set it to a "
                "commit, or set the path to a folder"
            )
        digest = checkpoint_digest(folder)
    if is_folder:
        weights_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors")) or None
    weights = digest or revision or ""
    source = folder.name if is_folder else path
    shaping = {**_SHAPING, **kind.shaping}
    shaped = [f"{key}={given[key]}" for key in sorted(given) if key in shaping]
    passed: dict[str, JSON] = {
        "local_files_only": True,
        "max_batch": kind.max_batch,
        "threads": None,
        **({"cache_dir": None} if "cache_dir" in kind.options else {}),
        **given,
        "path_or_repo": path,
        "revision": revision,
    }
    if kind.space is not None:
        passed["space"] = f"{kind.space}:{source}@{_short(weights)}"
    return ModelEntry(
        info=ModelInfo(
            name=name,
            revision="+".join([weights, f"code={CODE_VERSION}", *shaped]),
            task=kind.task,
            licence=licence,
            source=source,
            sha256=digest,
        ),
        factory=kind.factory,
        options=passed,
        weights_bytes=weights_bytes,
    )


def _check_options(name: str, kind: _Implementation, given: Mapping[str, JSON]) -> None:
    known = {**_SHAPING, **_OPTIONS, **kind.shaping, **kind.options}
    for key, value in given.items():
        if key not in known:
            raise ConfigurationError(
                f"model {name} has an unknown option {key!r}; use one of {', '.join(known)}"
            )
        if type(value) is not known[key]:
            raise ConfigurationError(
                f"model {name} has option {key}={value!r}; it must be of type {known[key].__name__}"
            )
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise ConfigurationError(f"model {name} has option {key}={value}; it must be 1 or more")


def _short(weights: str) -> str:
    """Commits and digests are long, and 12 of their digits tell them apart."""
    return weights[:12] if _COMMIT.match(weights) else weights


#: Repository, commit, licence, and about how large the weights are in MB, as published.
_Pin = tuple[str, str, str, int]
_CLIP: _Pin = (
    "openai/clip-vit-base-patch32",
    "b97b0100e55e367c057773c2a614676470b0d575",
    "MIT",
    605,
)
_SIGLIP2: _Pin = (
    "google/siglip2-base-patch16-224",
    "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
    "Apache-2.0",
    1500,
)
_SMOLVLM2: _Pin = (
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
    "7b375e1b73b11138ff12fe22c8f2822d8fe03467",
    "Apache-2.0",
    2030,
)


def _hub(name: str, implementation: str, pin: _Pin) -> ModelEntry:
    repository, commit, licence, megabytes = pin
    return from_settings(
        name,
        implementation=implementation,
        path=repository,
        revision=commit,
        licence=licence,
        weights_bytes=megabytes * 1_000_000,
    )


HUB_ENTRIES: Mapping[str, ModelEntry] = {
    entry.info.name: entry
    for entry in (
        _hub("clip-vit-base-patch32", "image-text", _CLIP),
        _hub("clip-vit-base-patch32-labels", "image-text-labels", _CLIP),
        _hub("siglip2-base-patch16-224", "image-text", _SIGLIP2),
        _hub("siglip2-base-patch16-224-labels", "image-text-labels", _SIGLIP2),
        _hub(
            "blip-image-captioning-large",
            "caption",
            (
                "Salesforce/blip-image-captioning-large",
                "353689b859fcf0523410b1806dace5fb46ecdf41",
                "BSD-3-Clause",
                1880,
            ),
        ),
        _hub(
            "ast-audioset",
            "audio-classes",
            (
                "MIT/ast-finetuned-audioset-10-10-0.4593",
                "f826b80d28226b62986cc218e5cec390b1096902",
                "BSD-3-Clause",
                346,
            ),
        ),
        _hub("smolvlm2-500m-captions", "vlm-caption", _SMOLVLM2),
        _hub("smolvlm2-500m-answers", "vlm-question", _SMOLVLM2),
        _hub(
            "blip-vqa-base",
            "question",
            (
                "Salesforce/blip-vqa-base",
                "787b3d35d57e49572baabd22884b3d5a05acf072",
                "BSD-3-Clause",
                1540,
            ),
        ),
        _hub(
            "whisper-large-v3-turbo",
            "speech",
            (
                "openai/whisper-large-v3-turbo",
                "41f01f3fe87f28c78e2fbf8b568835947dd65ed9",
                "MIT",
                1620,
            ),
        ),
        _hub(
            "paraphrase-multilingual-minilm-l12-v2",
            "sentence",
            (
                "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
                "e8f8c211226b894fcb81acc59f3b34ba3efd5f42",
                "Apache-2.0",
                471,
            ),
        ),
    )
}
