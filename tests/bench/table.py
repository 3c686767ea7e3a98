"""What the figures look like, and which bounds they break. Used by __main__.py."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

Figures = Mapping[str, float]
# Name (as bounds and JSON use it) -> what people read, and the unit.
ROWS = {
    "request-1": ("one request, 1 connection", "µs CPU"),
    "request-32": ("one request, 32 connections", "µs CPU"),
    "request-256": ("one request, 256 connections", "µs CPU"),
    "chunk": ("one event of a stream", "µs CPU"),
    "first-byte": ("added to the first event (median)", "µs"),
    "stream-memory": ("one open stream", "KiB"),
    "ready": ("start to first answer", "s"),
}


def ratio(ours: Figures, theirs: Figures, name: str) -> float | None:
    """How many times theirs ours is; None when theirs is nothing to divide by."""
    if name not in ours or theirs.get(name, 0) <= 0:
        return None
    return ours[name] / theirs[name]


def draw(figures: Mapping[str, Figures], title: str) -> Table:
    """A row a figure, a column a peer, and the ratio of the first two."""
    table = Table(title=title, title_justify="left")
    table.add_column("what it costs")
    for peer in figures:
        table.add_column(peer, justify="right")
    table.add_column("unit")
    both = len(figures) == 2
    if both:
        table.add_column("ratio", justify="right")
    for name, (words, unit) in ROWS.items():
        cells = [_number(taken.get(name)) for taken in figures.values()]
        ratios = []
        if both:
            ours, theirs = figures.values()
            times = ratio(ours, theirs, name)
            ratios = ["" if times is None else f"{times:.1f} ×"]
        table.add_row(words, *cells, unit, *ratios)
    return table


def _number(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:.2f}" if abs(figure) < 10 else f"{figure:.0f}"


def bounds(text: str) -> tuple[str, float]:
    """`name=number` as typed after --max and --max-ratio. Raises ValueError."""
    name, _, number = text.partition("=")
    if name not in ROWS:
        raise ValueError(f"no figure is called {name!r}; there are {', '.join(ROWS)}")
    return name, float(number)


def broken(
    ours: Figures,
    theirs: Figures,
    most: Mapping[str, float],
    most_ratio: Mapping[str, float],
) -> list[str]:
    """A sentence for every bound that does not hold. A bound without a figure does not hold."""
    words = []
    for name, bound in most.items():
        figure = ours.get(name)
        if figure is None or figure > bound:
            words.append(f"{ROWS[name][0]}: {_number(figure)} {ROWS[name][1]}, bound {bound:g}")
    for name, bound in most_ratio.items():
        times = ratio(ours, theirs, name)
        if times is None or times > bound:
            shown = "no ratio" if times is None else f"{times:.1f} × nginx"
            words.append(f"{ROWS[name][0]}: {shown}, bound {bound:g} ×")
    return words
