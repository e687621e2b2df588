"""Draw the README's picture from real answers of the bundled sample: three requests, one SVG file.

    .venv/bin/python scripts/make_picture.py

It draws what the platform's UI draws: the saved embedding, coloured by cell type and by the expression of two genes.
"""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import cellworker
from cellworker.experiment.cell_sets import CellClass
from cellworker.sample import sample_path

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "sample.svg"
GENES = ["CD14", "CD3D"]
WIDTH, HEIGHT, GAP, TOP, BOTTOM = 268, 190, 26, 56, 36
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
INK, MUTED, GREY = "#1f2430", "#6b7280", "#d9dce3"
# Cividis-like, from light to dark: readable for the colour-blind and in print.
RAMP = [(217, 220, 227), (158, 188, 205), (86, 140, 181), (38, 84, 140), (15, 37, 87)]


def shade(fraction: float) -> str:
    """Return the colour of a value between 0 and 1."""
    place = max(0.0, min(1.0, fraction)) * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    mixed = [round(a + (b - a) * (place - low)) for a, b in zip(RAMP[low], RAMP[low + 1], strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def scaled(points: dict[int, tuple[float, float]]) -> dict[int, tuple[float, float]]:
    """Fit the points into a panel, the second axis upwards; each axis by itself, as the UI's plots do."""
    xs, ys = [x for x, _ in points.values()], [y for _, y in points.values()]
    wide, high = WIDTH / (max(xs) - min(xs)), HEIGHT / (max(ys) - min(ys))
    return {cell: (wide * (x - min(xs)), high * (max(ys) - y)) for cell, (x, y) in points.items()}


def dots(points: dict[int, tuple[float, float]], colours: dict[int, str], order: list[int]) -> str:
    """Draw the cells, those that come last in `order` on top; one group per colour keeps the file small."""
    parts, current = [], ""
    for cell in order:
        if colours[cell] != current:
            parts.append(f'{"</g>" if current else ""}<g fill="{colours[cell]}">')
            current = colours[cell]
        x, y = points[cell]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>')
    return "".join(parts) + "</g>"


def text(
    x: float, y: float, content: str, *, size: int = 13, fill: str = INK, anchor: str = "start", more: str = ""
) -> str:
    """Return one line of text."""
    look = f'font-size="{size}" fill="{fill}" text-anchor="{anchor}"{more}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(content)}</text>'


def cell_set_panel(points: dict[int, tuple[float, float]], cell_class: CellClass) -> str:
    """Draw the cell sets of a class with their names above them."""
    colours = dict.fromkeys(points, GREY)
    labels = []
    for cell_set in cell_class.children:
        here = sorted(cell for cell in cell_set.cell_ids.tolist() if cell in points)
        colours |= dict.fromkeys(here, cell_set.color)
        x = sorted(points[cell][0] for cell in here)[len(here) // 2]
        y = min(points[cell][1] for cell in here) - 7
        halo = ' stroke="#fff" stroke-width="3" stroke-linejoin="round"'
        labels.append(text(x, y, cell_set.name, size=11, fill="#fff", anchor="middle", more=halo))
        labels.append(text(x, y, cell_set.name, size=11, anchor="middle"))
    order = sorted(points, key=lambda cell: (colours[cell], cell))
    return dots(points, colours, order) + "".join(labels)


def gene_panel(points: dict[int, tuple[float, float]], answer: dict[str, Any], column: int) -> str:
    """Draw one gene, its scale cut where the answer says, expressing cells on top."""
    sparse = answer["rawExpression"]
    span = slice(sparse["ptr"][column], sparse["ptr"][column + 1])
    values = dict.fromkeys(points, 0.0) | dict(zip(sparse["index"][span], sparse["values"][span], strict=True))
    top = answer["stats"]["truncatedMax"][column]
    colours = {cell: shade(round(values[cell] / top * 24) / 24) for cell in points}
    order = sorted(points, key=lambda cell: (min(values[cell], top), cell))
    bar = "".join(f'<rect x="{i * 4}" width="4.3" height="8" fill="{shade(i / 24)}"/>' for i in range(25))
    legend = f'<g transform="translate({WIDTH - 150},{HEIGHT + 14})">{bar}</g>'
    legend += text(WIDTH - 156, HEIGHT + 22, "0", size=11, fill=MUTED, anchor="end")
    legend += text(WIDTH - 44, HEIGHT + 22, f"{top:.1f}", size=11, fill=MUTED)
    return dots(points, colours, order) + legend


def main() -> None:
    """Ask, draw, write."""
    experiment = cellworker.open_experiment(sample_path())
    embedding = experiment.call("GetEmbedding", type="umap", useSaved=True)
    expression = experiment.call("GeneExpression", genes=GENES)
    cell_types = next(item for item in experiment.cell_sets.classes if item.name == "Cell type")
    points = scaled({cell: (point[0], point[1]) for cell, point in enumerate(embedding) if point})
    panels = [(cell_types.name, "cell_sets.json", cell_set_panel(points, cell_types))]
    for column, gene in enumerate(expression["orderedGeneNames"]):
        mean = expression["stats"]["rawMean"][column]
        panels.append((gene, f"mean {mean:.2f}", gene_panel(points, expression, column)))
    width = GAP + len(panels) * (WIDTH + GAP)
    height = TOP + HEIGHT + BOTTOM
    title = f"{len(points)} immune cells of the bundled sample, by cell type and by expression of {' and '.join(GENES)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
        f' font-family="{FONT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" rx="10" fill="#fff"/>',
    ]
    for number, (name, remark, drawing) in enumerate(panels):
        left = GAP + number * (WIDTH + GAP)
        weight = ' font-weight="600"'
        lines.append(f'<g transform="translate({left},{TOP})">{drawing}')
        lines.append(text(0, -32, name, size=15, more=weight))
        lines.append(text(WIDTH, -32, remark, size=11, fill=MUTED, anchor="end") + "</g>")
    lines.append("</svg>\n")
    OUTPUT.write_text("\n".join(lines), encoding="utf-8")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
