"""Sets of cells without a name, written as keys: ``cells:`` and a bitmap in base64url.

Wherever a request names a cell set, such a key stands for the cells themselves. Bit ``i % 8`` (from the least
significant) of byte ``i // 8`` says whether the cell with id ``i`` is in it. A million cells are 167 kB, whatever the
selection, and the same selection always has the same key.
"""

import base64
import binascii
import re

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["PREFIX", "cells_of_bitmap", "is_bitmap"]

PREFIX = "cells:"
_MAX_CHARACTERS = 4 * (2**31 // 8) // 3
"""As long as the largest cell id allows."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")


def is_bitmap(key: str) -> bool:
    """Whether a key is a bitmap and not the name of a set."""
    return key.startswith(PREFIX)


def cells_of_bitmap(key: str, what: str) -> NDArray[np.int32]:
    """Return the ids of the cells: int32, ascending.

    Parameters
    ----------
    key
        As in the module's description; padding with ``=`` may be missing.
    what
        The request's field, for the message.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when it is no base64url.
    """
    text = key.removeprefix(PREFIX)
    message = f"{what}: expected a bitmap of cells in base64url after {PREFIX!r}."
    if len(text) > _MAX_CHARACTERS or not _BASE64URL.fullmatch(text):
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_")
    except (ValueError, binascii.Error):
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    return np.flatnonzero(bits).astype(np.int32)
