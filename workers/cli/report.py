"""What the commands print."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import markup
from rich.console import Console
from rich.table import Table

#: Tags shown per shot; the database has all of them.
TAGS_SHOWN = 6
WIDTH_WHEN_PIPED = 200


def escape(text: str) -> str:
    """Text of strangers for a terminal: no markup, and no control characters."""
    return markup.escape("".join(c if c.isprintable() else "\ufffd" for c in text))


def clock(milliseconds: int) -> str:
    """1:02:03.4, or 02:03.4 under an hour."""
    seconds, tenths = divmod(milliseconds // 100, 10)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes:02}"
    return f"{start}:{seconds:02}.{tenths}"


def print_asset(details: Mapping[str, Any]) -> None:
    """One asset: its shots with tags, class and caption, then its text and sounds."""
    console = Console(highlight=False)
    console.rule(f"[bold]{escape(str(details['uri']))}", align="left")
    console.print(_facts(details))
    for shot in details["shots"]:
        of_shot = {
            name: [row for row in details[name] if row["shot_index"] == shot["shot_index"]]
            for name in ("tags", "classifications", "captions")
        }
        if details["kind"] != "image":
            span = f"{clock(shot['start_ms'])} – {clock(shot['end_ms'])}"
            console.print(f"[cyan]shot {shot['shot_index']}[/]  {span}")
        _print_shot(of_shot, console)
    _print_cues(details["cues"], console)
    _print_sounds(details["sound_events"], console)
    for row in details["stage_runs"]:
        if row["state"] == "failed" and details["status"] == "failed":
            console.print(f"[red]{row['stage']} failed[/]: {escape(row['error_text'])}")
    console.print()


def _print_shot(of_shot: Mapping[str, Sequence[Mapping[str, Any]]], console: Console) -> None:
    for row in of_shot["captions"]:
        console.print(f"  caption  {escape(row['text'])}")
    for row in of_shot["classifications"]:
        console.print(
            f"  class    {escape(row['class'])} {row['score']:.2f} ({escape(row['taxonomy'])})"
        )
    tags = of_shot["tags"]
    if tags:
        shown = [
            f"{escape(row['label'])} {row['score']:.2f} ({row['modalities']})"
            for row in tags[:TAGS_SHOWN]
        ]
        more = f" and {len(tags) - TAGS_SHOWN} more" if len(tags) > TAGS_SHOWN else ""
        console.print(f"  tags     {', '.join(shown)}{more}")


def _print_cues(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    for origin, title in (("speech", "spoken"), ("subtitle", "subtitles"), ("ocr", "on screen")):
        cues = [row for row in rows if row["origin"] == origin]
        if cues:
            console.print(f"[cyan]{title}[/]")
        for row in cues:
            language = f" [{row['language']}]" if row["language"] else ""
            text = row["text"].replace("\n", " / ")
            console.print(f"  {clock(row['start_ms'])}{escape(language)}  {escape(text)}")


def _print_sounds(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    if rows:
        console.print("[cyan]heard[/]")
    for row in rows:
        span = f"{clock(row['start_ms'])} – {clock(row['end_ms'])}"
        console.print(f"  {span}  {escape(row['label'])} {row['score']:.2f}")


def _facts(details: Mapping[str, Any]) -> str:
    parts = [f"asset {details['asset_id']}", str(details["kind"])]
    if details["duration_ms"] is not None and details["kind"] != "image":
        parts.append(clock(details["duration_ms"]))
    if details["width"]:
        parts.append(f"{details['width']}×{details['height']}")
    if details["frame_rate"]:
        parts.append(f"{details['frame_rate']:.5g} fps")
    parts.append(details["status"])
    extra = len(details["locations"]) - 1
    if extra > 0:
        parts.append(f"also at {', '.join(escape(uri) for uri in details['locations'][1:])}")
    return ", ".join(parts)


def print_jobs(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line per job."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("job", "state", "done", "failed", "assets", "profile", "submitted", "name"):
        table.add_column(title, justify="right" if title in ("job", "done", "failed") else "left")
    for row in rows:
        table.add_row(
            str(row["job_id"]),
            row["state"],
            str(row["assets_done"]),
            str(row["assets_failed"]),
            str(row["assets_total"]),
            row["profile"],
            _moment(row["submitted_at"]),
            escape(row["name"]),
        )
    Console().print(table)


def print_job_errors(
    job: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], console: Console
) -> None:
    """Why a job's sources could not be listed, or it was paused, and how its stage runs stand."""
    if job["error_text"]:
        state = "failed" if job["state"] == "failed" else "stopped"
        console.print(f"[red]{state}[/] {escape(job['error_text'])} ({job['error_class']})")
    for row in stages:
        error = f" ({row['error_class']})" if row["error_class"] else ""
        console.print(f"  {row['stage']}: {row['runs']} {row['state']}{error}")


def print_failed(failures: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A line per failure: where, at which stage, why."""
    for row in failures:
        console.print(
            f"[red]failed[/] {escape(row['uri'])} at {row['stage']}: {escape(row['error_text'])} "
            f"({row['error_class']})"
        )


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Any rows, as a table; wide where nobody's terminal sets the width."""
    if not rows:
        print("(no rows)")
        return
    table = Table(header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row.values()))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_WHEN_PIPED)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value)


def _moment(value: Any) -> str:
    return value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else str(value)[:19]
