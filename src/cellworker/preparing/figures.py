"""Figures of the report as text for a page: SVG for curves, PNG for maps of many cells."""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cellworker.plain_text import as_html

__all__ = ["colours", "histogram", "knee_plot", "scatter"]

Floats = NDArray[np.float64]

_WIDTH, _HEIGHT = 320, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 24, 34
_BINS = 60
_PIXELS = 520
_MIN_TICKS, _MAX_TICKS = 3, 5


def _frame(title: str, x_label: str, inside: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{as_html(title)}"><text x="{_LEFT}" y="15" class="t">{as_html(title)}</text>{inside}'
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 4}" class="x">{as_html(x_label)}</text></svg>'
    )


def _x(part: float) -> float:
    return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)


def _y(part: float) -> float:
    return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)


def _ticks(low: float, high: float, *, logarithmic: bool = False) -> list[float]:
    """Return round numbers between two."""
    if logarithmic:
        powers = np.arange(np.floor(low), np.floor(high) + 1)
        for parts in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
            found = [float(power + np.log10(part)) for power in powers for part in parts]
            found = [tick for tick in found if low <= tick <= high]
            if len(found) >= _MIN_TICKS:
                break
        return found[:: max(1, len(found) // _MAX_TICKS)]
    if high <= low:
        return [low]
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    while (high - low) / step > _MAX_TICKS:
        step *= 2 if (high - low) / step <= 2 * _MAX_TICKS else 5
    return [float(tick) for tick in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}"


def _axis(low: float, high: float, *, logarithmic: bool = False) -> str:
    out = [f'<path d="M{_x(0):.1f} {_y(0):.1f}H{_x(1):.1f}" class="a"/>']
    for tick in _ticks(low, high, logarithmic=logarithmic):
        place = _x((tick - low) / ((high - low) or 1))
        label = _number(10**tick if logarithmic else tick)
        out.append(f'<text x="{place:.1f}" y="{_y(0) + 13:.0f}" class="x">{label}</text>')
    return "".join(out)


def histogram(
    title: str, values: Floats, limits: Sequence[tuple[str, float]], *, logarithmic: bool = False, rare: bool = False
) -> str:
    """Return the distribution of a measure, with its limits as lines.

    Parameters
    ----------
    values
        float64; values that are not finite are left out.
    limits
        The label and the position of each line.
    logarithmic
        Whether the axis is; values below 1 are drawn at 1.
    rare
        Whether a bar's height is the logarithm of its cells, so that small bars beside large ones show.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return _frame(title, "no values", "")
    shown = np.log10(np.maximum(known, 1)) if logarithmic else known
    marks = [(label, float(np.log10(max(place, 1))) if logarithmic else place) for label, place in limits]
    low, high = float(shown.min()), float(shown.max())
    low, high = min([low, *(place for _, place in marks)]), max([high, *(place for _, place in marks)])
    high = high if high > low else low + 1
    counts, edges = np.histogram(shown, _BINS, (low, high))
    top = max(1, int(counts.max()))
    heights = np.log1p(counts) / np.log1p(top) if rare else counts / top
    bars = []
    for height, left, right in zip(heights.tolist(), edges, edges[1:], strict=False):
        if height:
            a, b, y = _x((left - low) / (high - low)), _x((right - low) / (high - low)), _y(height)
            bars.append(f'<rect x="{a:.1f}" y="{y:.1f}" width="{b - a:.1f}" height="{_y(0) - y:.1f}" class="b"/>')
    lines = []
    for number, (label, place) in enumerate(marks):
        x = _x((place - low) / (high - low))
        anchor = "end" if x > _WIDTH / 2 else "start"
        lines.append(
            f'<path d="M{x:.1f} {_y(0):.1f}V{_y(1):.1f}" class="l"/>'
            f'<text x="{x:.1f}" y="{_y(1) + 10 + 12 * number:.0f}" class="m" text-anchor="{anchor}">'
            f"{as_html(label)}</text>"
        )
    most = f'<text x="{_LEFT - 4}" y="{_y(1) + 8:.0f}" class="y">{top:,}</text>'
    unit = "bars: cells, logarithmic" if rare else "bars: cells"
    return _frame(title, unit, _axis(low, high, logarithmic=logarithmic) + "".join(bars) + "".join(lines) + most)


def knee_plot(title: str, ranks: Floats, counts: Floats, kept: int) -> str:
    """Return counts over ranks of barcodes, both logarithmic, with a line where the last cell would stand."""
    if len(ranks) < 2:
        return _frame(title, "too few barcodes", "")
    x, y = np.log10(ranks), np.log10(np.maximum(counts, 1))
    wide, tall = float(x[-1]) or 1.0, float(y.max()) or 1.0
    path = " ".join(f"{_x(a / wide):.1f},{_y(b / tall):.1f}" for a, b in zip(x, y, strict=True))
    inside = f'<polyline points="{path}" class="c"/>'
    if kept:
        at = _x(min(1.0, np.log10(kept) / wide))
        inside += f'<path d="M{at:.1f} {_y(0):.1f}V{_y(1):.1f}" class="l"/>'
        inside += f'<text x="{at - 3:.1f}" y="{_y(0) - 5:.0f}" class="m" text-anchor="end">{kept:,} cells</text>'
    for tick in _ticks(0, tall, logarithmic=True):
        inside += f'<text x="{_LEFT - 4}" y="{_y(tick / tall) + 4:.0f}" class="y">{_number(10**tick)}</text>'
    return _frame(title, "rank of the barcode", _axis(0, wide, logarithmic=True) + inside)


def colours(n: int) -> list[tuple[int, int, int]]:
    """Return colours that differ, by turning the hue by the golden angle."""
    out = []
    for i in range(n):
        hue = (i * 0.618033988749895 + 0.58) % 1.0
        light = (0.62, 0.48, 0.76)[i % 3]
        chroma = 0.65 * (1 - abs(2 * light - 1))
        parts = [0.0, 0.0, 0.0]
        sector = int(hue * 6)
        middle = chroma * (1 - abs((hue * 6) % 2 - 1))
        high, mid = ((0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2))[sector]
        parts[high], parts[mid] = chroma, middle
        low = light - chroma / 2
        red, green, blue = (round(255 * (part + low)) for part in parts)
        out.append((red, green, blue))
    return out


def scatter(title: str, points: Floats, codes: NDArray[np.int32], labels: Sequence[str]) -> str:
    """Return a map of cells as an image, coloured by their labels, with a legend.

    Cells are drawn in an order independent of their labels, so that no label hides another.
    """
    palette = colours(len(labels))
    image = np.full((_PIXELS, _PIXELS, 3), 255, np.uint8)
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    places = ((points - low) / span * (_PIXELS - 9) + 4).round().astype(np.int64)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(points))
    radius = 2 if len(points) < 5_000 else 1
    shades = np.array([*palette, (200, 200, 200)], np.uint8)[codes[order]]
    for dx in range(-radius, radius + 1):
        for dy in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius:
                image[_PIXELS - 1 - places[order, 1] + dy, places[order, 0] + dx] = shades
    legend = "".join(
        f'<li><i style="background:rgb{colour}"></i>{as_html(label)}</li>'
        for label, colour in zip(labels, palette, strict=True)
    )
    data = base64.b64encode(_png(image)).decode()
    return (
        f'<figure><figcaption>{as_html(title)}</figcaption><img alt="{as_html(title)}" width="{_PIXELS}" '
        f'height="{_PIXELS}" src="data:image/png;base64,{data}"/><ul class="legend">{legend}</ul></figure>'
    )


def _png(image: NDArray[np.uint8]) -> bytes:
    """Return an image ``(height, width, 3)`` as PNG (ISO/IEC 15948)."""
    height, width, _ = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, width * 3)], axis=1)
    parts: Mapping[bytes, bytes] = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows.tobytes(), 9),
        b"IEND": b"",
    }
    out = b"\x89PNG\r\n\x1a\n"
    for kind, content in parts.items():
        out += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return out
