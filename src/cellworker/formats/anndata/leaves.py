"""Unique names that files and groups allow."""

from collections.abc import Iterable

__all__ = ["Leaves"]


class Leaves:
    """Gives out names; what it had to change is in `renamed`, in words."""

    def __init__(self) -> None:
        self.renamed: list[str] = []
        self._taken: dict[str, set[str]] = {}

    def take(self, place: str, names: Iterable[str]) -> None:
        """Say that names are in use."""
        self._taken.setdefault(place, {"_index"}).update(names)

    def free(self, place: str, wanted: str) -> str:
        """Return a name that is allowed in a place and free, and take it."""
        taken = self._taken.setdefault(place, {"_index"})
        name = wanted.replace("/", "_").replace("\\", "_").replace("\0", "")
        name = "_" + name if not name or name.startswith((".", "__")) else name
        free, number = name, 2
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free)
        if free != wanted:
            self.renamed.append(f"{place}: {wanted!r} is {free!r}")
        return free
