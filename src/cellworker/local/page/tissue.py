"""The explorer's data of tissues: positions of cells on one image, and the image."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment, TissueImage
from cellworker.protocol.value_json import encode
from cellworker.tasks.embedding import places_on

__all__ = ["picture", "places"]

_LEVEL = 6
"""zlib's default: a tissue of 4 million pixels takes half a second, once."""
_DEPTH, _COLOUR, _FROM_ABOVE = 8, 2, 2


def places(experiment: Experiment, number: int) -> bytes:
    """Return the places of cells on one image, in its pixels, in the form of ``GetEmbedding``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` where there is no such image.
    """
    return encode(places_on(experiment, [_image(experiment, number)]))


def picture(experiment: Experiment, number: int) -> bytes:
    """Return one image as PNG. Raises as `places`, and where the file holds no pixels."""
    pixels = _image(experiment, number).pixels
    if pixels is None:
        raise WorkerError(
            ErrorCode.INVALID_INPUT, f"image {number}: the file holds the places of cells, but no pixels."
        )
    return _png(pixels)


def _image(experiment: Experiment, number: int) -> TissueImage:
    images = list(experiment.images.values())
    if not 0 <= number < len(images):
        message = f"image {number}: the experiment has {len(images)} images of tissues, counted from 0."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    return images[number]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Write a PNG of 8 bits a channel, each row as differences from the row above (PNG specification, filter 2)."""
    height, width, channels = pixels.shape
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = _FROM_ABOVE
    flat = pixels.reshape(height, width * channels)
    rows[0, 1:] = flat[0]
    rows[1:, 1:] = flat[1:] - flat[:-1]
    header = struct.pack(">IIBBBBB", width, height, _DEPTH, _COLOUR, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), _LEVEL)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
