"""Settings with a profile of tiny checkpoints for every role that the hub fills."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_checkpoints import write_blip_vqa, write_clip, write_sentence, write_siglip, write_smolvlm
from tiny_sounds import write_whisper

#: Model by name → implementation, and what writes its checkpoint.
_MODELS: dict[str, tuple[str, Callable[[Path], Path], dict[str, Any]]] = {
    "tiny-siglip": ("image-text", write_siglip, {}),
    "tiny-siglip-labels": ("image-text-labels", write_siglip, {}),
    "tiny-clip": ("image-text", write_clip, {}),
    "tiny-clip-labels": ("image-text-labels", write_clip, {}),
    "tiny-whisper": ("speech", write_whisper, {}),
    "tiny-text": ("sentence", write_sentence, {}),
    "tiny-captions": ("vlm-caption", write_smolvlm, {"max_new_tokens": 6}),
    "tiny-answers": ("vlm-question", write_smolvlm, {"max_new_tokens": 6}),
    "tiny-blip": ("question", write_blip_vqa, {"max_new_tokens": 4}),
}

PROFILES: dict[str, Any] = {
    "tiny": {
        "extends": "hub",
        "models": {
            "vision": "tiny-siglip",
            "labels": "tiny-siglip-labels",
            "speech": "tiny-whisper",
            "text": "tiny-text",
            "caption": "tiny-captions",
            "question": "tiny-answers",
        },
    },
    "blip": {"extends": "tiny", "models": {"question": "tiny-blip"}},
    "clip": {"extends": "tiny", "models": {"vision": "tiny-clip", "labels": "tiny-clip-labels"}},
    "half": {"extends": "tiny", "models": {"labels": ""}},
    "mixed": {"extends": "tiny", "models": {"labels": "tiny-clip-labels"}},
    "silent": {"extends": "tiny", "models": {"question": ""}},
    "wrong": {"extends": "tiny", "models": {"question": "tiny-captions"}},
}


def write_models(folder: Path) -> dict[str, Any]:
    """The ``models`` of the settings; every checkpoint is written once below ``folder``."""
    models = {}
    for name, (implementation, write, options) in _MODELS.items():
        path = folder / write.__name__
        if not path.exists():
            write(path)
        models[name] = {"implementation": implementation, "path": str(path), "options": options}
    return models


def environment(models: dict[str, Any], profile: str = "tiny") -> dict[str, str]:
    """The same for a process of its own."""
    return {
        "MEDIAWEAVE_PROFILE": profile,
        "MEDIAWEAVE_PROFILES": json.dumps(PROFILES),
        "MEDIAWEAVE_MODELS": json.dumps(models),
    }
