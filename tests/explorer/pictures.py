"""Reading the pictures that browsers and the worker make."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["pixels_of"]


def pixels_of(png: bytes) -> NDArray[np.int16]:
    """Decode a PNG of 8 bits without interlacing, as browsers make them: ``(height, width, 3)``."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, parts, header = 8, [], b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        header = content if kind == b"IHDR" else header
        parts += [content] if kind == b"IDAT" else []
        at += 12 + length
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", header)
    channels = {2: 3, 6: 4}[colour]
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(b"".join(parts)), np.uint8).reshape(height, 1 + width * channels)
    out = np.zeros((height, width * channels), np.uint8)
    above = np.zeros(width * channels, np.uint8)
    for i, row in enumerate(rows):
        above = out[i] = _unfiltered(int(row[0]), row[1:], above, channels)
    return out.reshape(height, width, channels)[:, :, :3].astype(np.int16)


def _unfiltered(kind: int, row: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    if kind == 0:
        return row
    if kind == 2:
        return row + above
    out = row.astype(int)
    up = above.astype(int)
    for k in range(len(out)):
        left = out[k - step] if k >= step else 0
        corner = int(up[k - step]) if k >= step else 0
        if kind == 1:
            guess = left
        elif kind == 3:
            guess = (left + up[k]) // 2
        else:
            away = [abs(up[k] - corner), abs(left - corner), abs(left + up[k] - 2 * corner)]
            guess = (left, up[k], corner)[away.index(min(away))]
        out[k] = (out[k] + guess) & 255
    return out.astype(np.uint8)
