"""Draws ``results/growth.svg``: how the CPU time of each operation grows with the number of cells.

    python -m benchmarks.growth_plot

One panel per operation, both axes logarithmic with the same scale, so that slopes can be compared: the dashed line has
the slope of time in proportion to cells. Exponents are those of ``growth.meta.json``, from 50,000 cells on.
"""

import json
import math
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.harness import RESULTS

__all__ = ["draw"]

COLUMNS = 5
_TITLE = "CPU seconds by number of cells"
PANEL, PLOT_LEFT, PLOT_TOP, PLOT = (200, 190), 38, 44, (150, 112)  # pixels
MARGIN, HEAD = 16, 64
DECADES = 3  # of seconds that each panel shows
STEEP = 1.1
STYLE = """
 text { font: 11px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #57606a }
 .title { font-size: 17px; font-weight: 600; fill: #1f2328 } .name { font-size: 12px; font-weight: 600; fill: #1f2328 }
 .number { font-variant-numeric: tabular-nums } .end { text-anchor: end } .middle { text-anchor: middle }
 .sheet { fill: #ffffff } .grid { stroke: #d8dee4; stroke-width: 1 } .even { stroke: #8c959f; stroke-dasharray: 3 3 }
 .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round }
 .line, .dot { stroke: #0969da } .steep .line, .steep .dot { stroke: #bc4c00 }
 .dot { fill: #ffffff; stroke-width: 2 } .slope { font-weight: 600; fill: #0969da } .steep .slope { fill: #bc4c00 }
 @media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .title, .name { fill: #f0f6fc } .sheet, .dot { fill: #0d1117 } .grid { stroke: #30363d }
  .even { stroke: #6e7681 } .line, .dot { stroke: #58a6ff } .slope { fill: #58a6ff }
  .steep .line, .steep .dot { stroke: #f0883e } .steep .slope { fill: #f0883e }
 }
"""


def draw(name: str, target: Path) -> None:
    """Draw the results of a run."""
    meta = json.loads((RESULTS / f"{name}.meta.json").read_text())
    series: dict[str, list[tuple[int, float]]] = {}
    for entry in json.loads((RESULTS / f"{name}.json").read_text()):
        operation, _, size = entry["case"].partition("; ")
        cells = int(size.removesuffix(" cells").replace(",", ""))
        series.setdefault(operation, []).append((cells, entry["ours"]["cpu_s"]))
    sizes = sorted({cells for points in series.values() for cells, _ in points})
    rows = math.ceil(len(series) / COLUMNS)
    width, height = 2 * MARGIN + COLUMNS * PANEL[0], HEAD + rows * PANEL[1] + MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{_TITLE}">',
        f"<style>{STYLE}</style>",
        f'<rect class="sheet" width="{width}" height="{height}" rx="6"/>',
        f'<text class="title" x="{MARGIN}" y="30">{_TITLE}</text>',
        f'<text x="{MARGIN}" y="48">{escape(_about(meta))}</text>',
    ]
    for number, (operation, points) in enumerate(series.items()):
        left = MARGIN + number % COLUMNS * PANEL[0]
        top = HEAD + number // COLUMNS * PANEL[1]
        out += [f'<g transform="translate({left} {top})"', *_panel(operation, points, sizes, _slope(meta, operation))]
    target.write_text("\n".join([*out, "</svg>"]) + "\n")


def _about(meta: dict) -> str:
    about, machine = meta["about"], meta["machine"]
    return (
        f"{about['genes']:,} genes, {about['values_per_cell']:,} of them in each cell; {machine['cores']} cores; "
        f"both axes logarithmic; dashed: in proportion to the cells; orange: an exponent above {STEEP}"
    )


def _slope(meta: dict, operation: str) -> float | None:
    fits = meta["exponents"].get(operation, {})
    return next((value for label, value in fits.items() if label.startswith("cpu_s from")), fits.get("cpu_s"))


def _panel(operation: str, points: Sequence[tuple[int, float]], sizes: Sequence[int], slope: float | None) -> list[str]:
    low = min(math.log10(max(seconds, 1e-6)) for _, seconds in points)
    high = max(math.log10(max(seconds, 1e-6)) for _, seconds in points)
    bottom = math.floor(min(low, high - DECADES + 0.2) if high - low > DECADES else (low + high - DECADES) / 2 + 0.5)
    bottom = min(bottom, math.floor(low))
    decades = max(DECADES, math.ceil(high) - bottom)
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(cells: float) -> float:
        return round(PLOT_LEFT + 8 + (math.log10(cells) - first) / (last - first) * (PLOT[0] - 16), 1)

    def y(seconds: float) -> float:
        return round(PLOT_TOP + PLOT[1] * (1 - (math.log10(max(seconds, 1e-6)) - bottom) / decades), 1)

    found = [f' class="{"steep" if (slope or 0) > STEEP else "even-growth"}">']
    found.append(f'<text class="name" x="{PLOT_LEFT}" y="14">{escape(_short(operation))}</text>')
    if slope is not None:
        found.append(f'<text class="slope number" x="{PLOT_LEFT}" y="30">n^{slope:.2f}</text>')
    for power in range(bottom, bottom + decades + 1):
        level = y(10.0**power)
        right = PLOT_LEFT + PLOT[0]
        found.append(f'<line class="grid" x1="{PLOT_LEFT}" y1="{level}" x2="{right}" y2="{level}"/>')
        found.append(f'<text class="number end" x="{PLOT_LEFT - 5}" y="{level + 4}">{_seconds(10.0**power)}</text>')
    for cells in sizes:
        label = f"{cells // 1000}k"
        found.append(f'<text class="number middle" x="{x(cells)}" y="{PLOT_TOP + PLOT[1] + 15}">{label}</text>')
    cells, seconds = points[0]
    ends = [(cells, seconds), (points[-1][0], seconds * points[-1][0] / cells)]
    (x1, y1), (x2, y2) = ((x(c), y(s)) for c, s in ends)
    found.append(f'<line class="even" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    line = " ".join(f"{x(c)},{y(s)}" for c, s in points)
    found.append(f'<polyline class="line" points="{line}"/>')
    for c, s in points:
        told = f"<title>{c:,} cells: {s:.4g} s</title>"
        found.append(f'<circle class="dot" cx="{x(c)}" cy="{y(s)}" r="3.2">{told}</circle>')
    cells, seconds = points[-1]
    told = f"{seconds:.3g} s at {cells // 1000}k"
    found.append(f'<text class="number end" x="{PLOT_LEFT + PLOT[0]}" y="30">{told}</text>')
    return [*found, "</g>"]


def _short(operation: str) -> str:
    """Return the beginning of a name, which fits above a panel."""
    for end in (":", ", to", " between", " of ten", " of 30", " from", "'s"):
        operation = operation.partition(end)[0]
    return operation


def _seconds(value: float) -> str:
    return f"{value:.4f}" if value < 1e-3 else f"{value:g}"


if __name__ == "__main__":
    run = sys.argv[1] if len(sys.argv) > 1 else "growth"
    draw(run, RESULTS / f"{run}.svg")
