"""Colours in sRGB and in CIE-Lab (CIE 15:2004; D65, 2 degree observer), where distances roughly match perception."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_lab", "to_lab"]

_WHITE = np.array([95.047, 100.0, 108.883])
_TO_RGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_EDGE = 6 / 29


def from_lab(lab: NDArray[np.float64]) -> list[str]:
    """Return ``#rrggbb`` of colours ``(n, 3)``; each channel is clipped to the range of screens."""
    y = (lab[:, 0] + 16) / 116
    f = np.stack([y + lab[:, 1] / 500, y, y - lab[:, 2] / 200], axis=1)
    xyz = np.where(f > _EDGE, f * f * f, 3 * _EDGE * _EDGE * (f - 4 / 29)) * _WHITE / 100
    linear = np.clip(_times(xyz, _TO_RGB), 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.rint(255 * rgb).astype(int).tolist()]


def to_lab(colours: Sequence[str]) -> NDArray[np.float64]:
    """Return float64 ``(n, 3)`` (L 0 to 100, a, b) of colours ``#rrggbb``."""
    rgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours], np.float64) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = 100 * _times(linear, _TO_XYZ) / _WHITE
    f = np.where(xyz > _EDGE**3, np.cbrt(xyz), xyz / (3 * _EDGE * _EDGE) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def _times(values: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply in a fixed order."""
    return np.asarray(values[:, :1] * matrix[:, 0] + values[:, 1:2] * matrix[:, 1] + values[:, 2:] * matrix[:, 2])
