"""The pixels of a tissue's image, from numbers of any type and range."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_PIXELS", "pixels_of"]

MAX_PIXELS = 64_000_000
"""Max pixels of an image that is kept: 8,000 by 8,000 take 192 MB in memory and in the store."""
_CHANNELS = (3, 4)


def pixels_of(image: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return red, green and blue of an image; None for what is no image that can be shown.

    Parameters
    ----------
    image
        ``(height, width)`` of grey, or ``(height, width, 3 or 4)`` of red, green, blue and opacity, which is left out.
        Numbers of any kind: from 0 to 1, or from 0 to 255.

    Returns
    -------
    numpy.ndarray
        uint8 ``(height, width, 3)``. Missing values are black.
    """
    if (
        image.dtype.kind not in "biuf"
        or image.ndim not in (2, 3)
        or not 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS
    ):
        return None
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[2] not in _CHANNELS:
        return None
    colours = image[:, :, :3]
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours)
    values = np.nan_to_num(colours.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if values.max() <= 1:
        values *= 255
    return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
