"""Colours for experiments without their own."""

import colorsys
from functools import cache

__all__ = ["palette"]

_FIRST = ("#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99")
_GOLDEN_ANGLE = 0.381966


@cache
def _generated(n: int) -> tuple[str, ...]:
    colors = list(_FIRST)
    step = 0
    while len(colors) < n:
        # Hues a golden angle apart never line up; lightness and saturation change with each tour of the circle.
        hue = (0.12 + step * _GOLDEN_ANGLE) % 1.0
        lightness = (0.45, 0.62, 0.36, 0.72)[step // 7 % 4]
        saturation = (0.62, 0.45, 0.8)[step // 28 % 3]
        red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, saturation))
        color = f"#{red:02x}{green:02x}{blue:02x}"
        if color not in colors:
            colors.append(color)
        step += 1
    return tuple(colors)


def palette(n: int = 380) -> list[str]:
    """Return `n` different hex colours; the first six are the platform's, neighbours in the list differ clearly."""
    return list(_generated(max(n, len(_FIRST)))[:n])
