"""Long lists of strings in one piece of memory: the names of a million cells take 20 MB, as Python's strings 80."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedTexts", "all_differ", "text_pieces"]

_PIECE: Final = 1 << 16  # strings that are Python objects at a time


class PackedTexts(Sequence[str]):
    """Strings that become Python objects only when asked for.

    Parameters
    ----------
    pieces
        The strings, some at a time.
    """

    def __init__(self, pieces: Iterable[Sequence[str]]) -> None:
        text, lengths = bytearray(), [np.zeros(1, np.int64)]
        for piece in pieces:
            raw = [one.encode("utf-8", "surrogatepass") for one in piece]
            text += b"".join(raw)
            lengths.append(np.fromiter(map(len, raw), np.int64, len(raw)))
        bounds = np.cumsum(np.concatenate(lengths))
        self._text = bytes(text)
        # Four bytes suffice for the names of a hundred million cells.
        self._bounds = bounds.astype(np.uint32) if bounds[-1] < 1 << 32 else bounds

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, item: Any) -> Any:  # noqa: ANN401
        if isinstance(item, slice):
            start, stop, step = item.indices(len(self))
            return self._some(start, stop) if step == 1 else [self[i] for i in range(start, stop, step)]
        place = int(item) + len(self) if item < 0 else int(item)
        if not 0 <= place < len(self):
            raise IndexError(item)
        return self._some(place, place + 1)[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _PIECE):
            yield from self._some(start, min(start + _PIECE, len(self)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence)
            and not isinstance(other, str)
            and len(other) == len(self)
            and all(one == another for one, another in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment] # as of a list

    def _some(self, start: int, stop: int) -> list[str]:
        bounds = self._bounds[start : stop + 1].tolist() if stop > start else []
        return [self._text[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(bounds)]


def text_pieces(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a list of strings into pieces, so that few of packed ones are Python objects at a time."""
    for start in range(0, len(texts), _PIECE):
        yield texts[start : start + _PIECE]


def all_differ(texts: Sequence[str]) -> bool:
    """Return whether no string of a list is there twice; False also where two might be, by their hashes."""
    hashes: NDArray[np.int64] = np.fromiter(map(hash, texts), np.int64, len(texts))
    hashes.sort()
    return not bool(np.any(hashes[1:] == hashes[:-1]))
