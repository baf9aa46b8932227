"""What a figure is, and how figures are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure. ``asked``: empty where nothing was. ``notes``: what it is made of."""

    name: str
    asked: str
    seen: float
    met: bool
    notes: Sequence[str] = ()


def show(figures: Sequence[Figure], console: Console) -> None:
    table = Table("figure", "asked", "seen", "met")
    for figure in figures:
        met = ("yes" if figure.met else "NO") if figure.asked else ""
        table.add_row(figure.name, figure.asked, f"{figure.seen:.4g}", met)
    console.print(table)
    for figure in figures:
        for line in figure.notes:
            console.print(f"{figure.name}: {line}", markup=False)
