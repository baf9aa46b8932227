"""``mediaweave models``: which models there are, who uses them, and whether they are here."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.config import Settings, load_settings
from pipeline.errors import ModelUnavailableError
from pipeline.models.base import ModelInfo
from pipeline.models.hub.entries import HUB_ENTRIES
from pipeline.models.presence import what_is_missing
from pipeline.models.registry import OFFLINE_ENTRIES
from pipeline.plan.graph import OWN_MODELS
from pipeline.plan.profiles import PROFILES, model_entry, profile_named
from workers.cli.options import JsonOption, print_json
from workers.cli.report import WIDTH_WHEN_PIPED, escape

#: Revisions are digests and commits: so many characters tell them apart.
REVISION_SHOWN = 14


def models(
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="Only those of this profile.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models: what for, how large, whose licence, and whether they are on this machine."""
    rows = model_rows(load_settings(), profile)
    print_json(rows) if as_json else _print_models(rows)


def model_rows(settings: Settings, profile: str | None = None) -> list[dict[str, Any]]:
    """One row per model, of all profiles or of one; no weights are loaded.

    Raises:
        ConfigurationError: there is no such profile, or the settings name a model wrongly.
    """
    uses = _uses(settings, [profile] if profile else sorted({*PROFILES, *settings.profiles}))
    own = {info.name: info for info in OWN_MODELS.values()}
    known = {*OFFLINE_ENTRIES, *HUB_ENTRIES, *settings.models, *own}
    return [
        {
            "name": name,
            "used_as": uses.get(name, {}),
            **(_own(own[name]) if name in own else _described(name, settings)),
        }
        for name in sorted(uses if profile else known | uses.keys())
    ]


def _uses(settings: Settings, profiles: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Model → profile → roles."""
    uses: dict[str, dict[str, list[str]]] = {}
    for profile in profiles:
        named = profile_named(profile, settings).models
        own = {role: info.name for role, info in OWN_MODELS.items()}
        for role, name in {**own, **named}.items():
            uses.setdefault(name, {}).setdefault(profile, []).append(role)
    return uses


def _own(info: ModelInfo) -> dict[str, Any]:
    """Of what is part of mediaweave."""
    return {**_said(info), "weights_bytes": None, "present": True, "missing": None}


def _described(name: str, settings: Settings) -> dict[str, Any]:
    try:
        entry = model_entry(name, settings)
    except ModelUnavailableError as error:
        # One of the settings' own: without its folder it has no revision.
        own = settings.models[name]
        nothing = dict.fromkeys(("task", "weights_bytes", "revision"))
        described = {**nothing, "licence": own.licence, "source": own.path}
        return {**described, "present": False, "missing": str(error)}
    missing = what_is_missing(entry)
    return {
        **_said(entry.info),
        "weights_bytes": entry.weights_bytes,
        "present": missing is None,
        "missing": missing,
    }


def _said(info: ModelInfo) -> dict[str, Any]:
    return {
        "task": info.task,
        "licence": info.licence,
        "source": info.source,
        "revision": info.revision,
    }


def _print_models(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("name", "task", "used as", "size", "licence", "source", "revision", "present"):
        table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
    for row in rows:
        used = [f"{', '.join(roles)} ({profile})" for profile, roles in row["used_as"].items()]
        table.add_row(
            *(
                escape(text)
                for text in (
                    row["name"],
                    row["task"] or "",
                    "; ".join(used),
                    _size(row["weights_bytes"]),
                    row["licence"],
                    row["source"],
                    (row["revision"] or "")[:REVISION_SHOWN],
                    "yes" if row["present"] else "no",
                )
            )
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH_WHEN_PIPED)
    console.print(table)
    for row in rows:
        if row["missing"]:
            console.print(
                f"[yellow]{escape(row['name'])}[/]: {escape(row['missing'])}", soft_wrap=True
            )


def _size(weights_bytes: int | None) -> str:
    if weights_bytes is None:
        return ""
    megabytes = weights_bytes / 1e6
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.3g} MB"
