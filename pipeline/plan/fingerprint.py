"""Fingerprints: a digest of everything that can change what a stage makes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def fingerprint(
    *,
    stage: str,
    code_version: int,
    params: Mapping[str, Any],
    models: Mapping[str, tuple[str, str]],
    inputs: Mapping[str, Any],
) -> str:
    """The fingerprint of a stage run; ``models``: role → (name, revision)."""
    return digest_of(
        {
            "stage": stage,
            "code_version": code_version,
            "params": dict(params),
            "models": {role: list(model) for role, model in models.items()},
            "inputs": dict(inputs),
        }
    )
