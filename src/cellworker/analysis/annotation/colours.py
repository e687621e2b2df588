"""Colours for new cell sets."""

import colorsys
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, count, islice

__all__ = ["first_colours", "next_colour"]

_GOLDEN_RATIO = 0.618033988749895


def next_colour(pool: Sequence[str], used: Collection[str]) -> str:
    """Return the first unused colour of the pool.

    Parameters
    ----------
    pool
        Hex strings in the order of preference.
    used
        Hex strings that are taken, in upper or lower case.

    Returns
    -------
    A hex string. After the pool, hues at steps of the golden ratio, which never coincide.
    """
    taken = {colour.casefold() for colour in used}
    for colour in pool:
        if colour.casefold() not in taken:
            return colour
    return next(colour for colour in _hues() if colour not in taken)


def first_colours(pool: Sequence[str], n: int) -> list[str]:
    """Return the first `n` colours of the pool, each once; after the pool, hues at steps of the golden ratio."""
    once = {colour.casefold(): colour for colour in reversed(pool)}
    known = dict.fromkeys(once[colour.casefold()] for colour in pool)
    return list(islice(chain(known, _hues()), n))


def _hues() -> Iterator[str]:
    for i in count():
        red, green, blue = colorsys.hls_to_rgb(i * _GOLDEN_RATIO % 1.0, 0.55, 0.6)
        yield f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
