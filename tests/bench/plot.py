"""A run as a picture: for every figure a bar of ours over one of nginx's, as long as the ratio.

Plain SVG, readable on light and on dark ground, every value there as text. Used by __main__.py for
docs/performance.svg.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from tests.bench import table
from tests.bench.page import Facts

GROUPS = {
    "Processor time": (
        "request-1",
        "request-32",
        "request-256",
        "large",
        "tls",
        "workers-2",
        "workers-2-256",
    ),  # fmt: skip
    "Streams": ("chunk", "stream-memory", "stream-memory-9000"),
    "Time added": ("first-byte", "rate-1000-p50", "rate-1000-p90"),
    "A process": ("rest", "ready"),
}
# Bars that are longer than all of the other groups are cut: they would make those short.
_OUTLIERS = "A process"
_LONGEST = 20.0
_WIDTH, _MARGIN, _LEFT, _RIGHT = 900, 32, 290, 690
_TOP, _ROW = 116, 42
_STYLE = """
svg { font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans",
  sans-serif; }
text { font-size: 13px; }
.title { font-size: 21px; font-weight: 600; }
.group { font-weight: 600; }
.soft { font-size: 12px; }
.value { font-size: 12px; paint-order: stroke; stroke-width: 4px; stroke-linejoin: round; }
.times { font-size: 15px; font-weight: 600; text-anchor: end; }
.middle { text-anchor: middle; }
.cut { stroke-width: 4; fill: none; }
"""
# Written out twice: programs other than browsers know no variables of CSS.
_COLOURS = """
text {{ fill: {ink}; }}
.soft, .value {{ fill: {soft}; }}
.ground {{ fill: {ground}; stroke: {rule}; }}
.value, .cut {{ stroke: {ground}; }}
.rule {{ stroke: {rule}; }}
.ours {{ fill: {ours}; }}
.theirs {{ fill: {theirs}; }}
"""
_LIGHT = _COLOURS.format(
    ink="#1f2328",
    soft="#59636e",
    ground="#ffffff",
    rule="#dde3e9",
    ours="#2f6fdb",
    theirs="#aab5c1",
)
_DARK = _COLOURS.format(
    ink="#e6edf3",
    soft="#9198a1",
    ground="#0d1117",
    rule="#272e37",
    ours="#5b9bff",
    theirs="#566170",
)


@dataclass(frozen=True)
class _Scale:
    """Turns times nginx into a place from left to right."""

    longest: float

    def width(self, times: float) -> float:
        return round((_RIGHT - _LEFT) * min(times, self.longest) / self.longest, 1)

    def marks(self) -> Iterator[int]:
        step = next(step for step in (1, 2, 5) if self.longest / step <= 8)
        yield 1
        yield from range(step if step > 1 else 2, int(self.longest) + 1, step)


def draw(ours: table.Figures, theirs: table.Figures, facts: Facts) -> str:
    """The whole file."""
    ratios = {name: table.ratio(ours, theirs, name) for name in table.ROWS}
    compared = [name for group, names in GROUPS.items() if group != _OUTLIERS for name in names]
    scale = _Scale(max(2.0, *(min(ratios[name] or 1.0, _LONGEST) for name in compared)))
    rows: list[str] = []
    y = _TOP
    for group, names in GROUPS.items():
        rows += [_line(y), _text(_MARGIN, y + 25, group, "group")]
        y += 42
        for name in names:
            rows.append(_text(_MARGIN, y + 19, table.ROWS[name][0]))
            rows += _bars(y, table.ROWS[name][1], ours[name], theirs[name], ratios[name], scale)
            y += _ROW
        y += 4
    return _file(y + 46, [*_heading(), *_grid(y, scale), *rows, _line(y), *_foot(y, facts)])


def _bars(
    y: int, unit: str, ours: float, theirs: float, times: float | None, scale: _Scale
) -> Iterator[str]:
    """Two bars with their values, and the ratio at the right."""
    of_ours = scale.width(times or 0)
    yield f'<rect class="ours" x="{_LEFT}" y="{y}" width="{of_ours}" height="14" rx="2"/>'
    yield _text(_LEFT + of_ours + 6, y + 12, f"{table.number(ours)} {unit}", "value")
    if times is None:
        yield _text(_WIDTH - _MARGIN, y + 19, "—", "times")
        return
    of_theirs = scale.width(1)
    yield f'<rect class="theirs" x="{_LEFT}" y="{y + 18}" width="{of_theirs}" height="10" rx="2"/>'
    yield _text(_LEFT + of_theirs + 6, y + 27, f"{table.number(theirs)} {unit}", "value")
    yield _text(_WIDTH - _MARGIN, y + 19, table.times(times), "times")
    if times > scale.longest:
        at = _LEFT + of_ours - 18
        yield f'<path class="cut" d="M{at} {y - 1}l5 5l-5 6l5 6"/>'


def _heading() -> Iterator[str]:
    yield _text(_MARGIN, 46, "What Wardgate costs, in times nginx", "title")
    yield '<rect class="ours" x="32" y="66" width="14" height="14" rx="2"/>'
    yield _text(54, 77, "Wardgate with everything on", "soft")
    yield '<rect class="theirs" x="252" y="66" width="14" height="14" rx="2"/>'
    yield _text(274, 77, "nginx, passing requests on with another key", "soft")
    yield _text(_WIDTH - _MARGIN, 77, "shorter is better", "soft", end=True)


def _grid(bottom: int, scale: _Scale) -> Iterator[str]:
    for mark in scale.marks():
        x = _LEFT + scale.width(mark)
        yield f'<line class="rule" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>'
        yield _text(x, _TOP - 8, f"{mark} ×", "soft middle")


def _foot(y: int, facts: Facts) -> Iterator[str]:
    yield _text(_MARGIN, y + 26, f"{facts.date} · {facts.programs} · {facts.machine}", "soft")


def _line(y: int) -> str:
    return f'<line class="rule" x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y}" y2="{y}"/>'


def _text(x: float, y: float, words: str, kind: str = "", *, end: bool = False) -> str:
    shown = f' class="{kind}"' if kind else ""
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:g}" y="{y:g}"{shown}{anchor}>{escape(words)}</text>'


def _file(height: int, parts: list[str]) -> str:
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    ground = (
        f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>'
    )
    title = "<title>What Wardgate costs, in times nginx</title>"
    style = f"<style>{_STYLE}{_LIGHT}@media (prefers-color-scheme: dark) {{{_DARK}}}</style>"
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    return "\n".join([opening, title, style, ground, *parts, "</svg>", ""])
