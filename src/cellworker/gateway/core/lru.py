"""An LRU set of names."""

from collections import OrderedDict

__all__ = ["LruNames"]


class LruNames:
    """The last names added.

    Parameters
    ----------
    size
        Max number of names.
    """

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Add a name; the oldest is dropped where there are too many."""
        self._names[name] = None
        if len(self._names) > self._size:
            self._names.popitem(last=False)
