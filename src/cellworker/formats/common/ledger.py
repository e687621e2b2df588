"""A ledger of each element of a source file when it is written in another format.

The reader lists every element of the source; the writer settles each of them exactly once. An element that is never
settled, or that two settled, is a bug and raises: a report that forgets something cannot be made.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Conversion", "Element", "Ledger", "Path", "renamed_names"]

Path = tuple[str, ...]
"""The path of an element: ``("obs", "leiden")``, ``("assays", "SCT", "counts")``."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a source: a column, an array, a matrix, a vector, an empty list.

    Attributes
    ----------
    path
        Where it is.
    kind
        Its description: "an array of 4 x 2".
    """

    path: Path
    kind: str


@dataclass(slots=True)
class Conversion:
    """The report on an experiment's parts, in words."""

    kept: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Ledger:
    """Settles the elements of one source.

    Parameters
    ----------
    elements
        Every element of the source, each path once.
    attributes
        What nodes of the source say beside their values: the node's path (it need not be an element) and the name. One
        that is not said to be kept is listed as lost by `close`, unless its node is.

    Raises
    ------
    RuntimeError
        From all methods: a bug of ours, an element that is unknown, settled twice, or forgotten.
    """

    def __init__(self, elements: Iterable[Element], attributes: Iterable[tuple[Path, str]] = ()) -> None:
        self._open: dict[Path, str] = {}
        self._attributes = dict.fromkeys(attributes)
        self._gone: set[Path] = set()
        for element in elements:
            if element.path in self._open:
                message = f"the source lists {'/'.join(element.path)} twice"
                raise RuntimeError(message)
            self._open[element.path] = element.kind
        self._under: dict[Path, list[Path]] = {}
        for path in self._open:
            for depth in range(len(path) + 1):
                self._under.setdefault(path[:depth], []).append(path)
        self._known = set(self._under)
        self._kept: list[tuple[Path, str]] = []
        self._renamed: list[str] = []
        self._lost: list[str] = []

    def has(self, path: Path) -> bool:
        """Return whether there is an element at or below a path."""
        return path in self._known

    def is_open(self, path: Path) -> bool:
        """Return whether something at or below a path waits for its fate."""
        return any(item in self._open for item in self._under.get(path, ()))

    def is_whole(self, path: Path) -> bool:
        """Return whether nothing at and below a path was settled yet."""
        return all(item in self._open for item in self._under.get(path, ()))

    def count(self, path: Path) -> int:
        """Return how many elements are at and below a path."""
        return len(self._under.get(path, ()))

    def open_paths(self, path: Path = ()) -> list[Path]:
        """Return the elements at and below a path that wait for their fate."""
        return [item for item in self._under.get(path, ()) if item in self._open]

    def elements(self) -> Iterator[Element]:
        """Iterate over the elements that wait for their fate; one that is settled with another is passed over."""
        for path, kind in list(self._open.items()):
            if path in self._open:
                yield Element(path, kind)

    def note(self, sentence: str) -> None:
        """Add a line about a name within an element."""
        self._renamed.append(sentence)

    def note_loss(self, sentence: str) -> None:
        """Add a line about what an element says beside its values, such as an attribute, that has no place."""
        self._lost.append(sentence)

    def keep_attributes(self, path: Path, names: Iterable[str]) -> None:
        """Say that the target has these attributes of a node."""
        for name in names:
            self._attributes.pop((path, name), None)

    def keep(self, path: Path) -> None:
        """Say that what is left at and below a path has the same place and name in the target."""
        self._settle(path)
        self._kept.append((path, ""))

    def keep_rest(self) -> None:
        """Say that all that is left has the same place and name in the target.

        One by one: an element may have others below it, as a vector has attributes.
        """
        self._kept += [(path, "") for path in self._open]
        self._open.clear()

    def move(self, path: Path, place: str) -> None:
        """Say that what is left at and below a path has its own name in the place that the target has for its kind."""
        self._settle(path)
        self._kept.append((path, place))

    def rename(self, path: Path, to: str, note: str = "") -> None:
        """Say that what is left at and below a path is elsewhere in the target; `note` tells what else changed."""
        self._settle(path)
        self._renamed.append(f"{_shown(path)} is {to}{f' ({note})' if note else ''}")

    def rename_one(self, path: Path, to: str) -> None:
        """Say that the element at a path is elsewhere; what is below it stays open."""
        if self._open.pop(path, None) is None:
            message = f"{_shown(path)} is settled twice, or is no element of the source"
            raise RuntimeError(message)
        self._renamed.append(f"{_shown(path)} is {to}")

    def lose(self, path: Path, why: str) -> None:
        """Say that what is left at and below a path cannot be represented."""
        kinds = self._settle(path)
        self._gone.add(path)
        kind = f" ({kinds[0]})" if len(kinds) == 1 else ""
        self._lost.append(f"{_shown(path)}{kind}: {why}")

    def _settle(self, path: Path) -> list[str]:
        found = [item for item in self._under.get(path, ()) if item in self._open]
        if not found:
            message = f"{_shown(path)} is settled twice, or is no element of the source"
            raise RuntimeError(message)
        return [self._open.pop(item) for item in found]

    def close(self) -> Conversion:
        """Return the report, every element in it.

        Raises
        ------
        RuntimeError
            When something was forgotten.
        """
        if self._open:
            names = ", ".join(map(_shown, self._open))
            message = f"the conversion does not report {names}"
            raise RuntimeError(message)
        attributes = [
            f"{_shown(path)}, attribute {_shown((name,))}: it has no place in the target"
            for path, name in self._attributes
            if not any(path[: depth + 1] in self._gone for depth in range(len(path)))
        ]
        return Conversion(_grouped(self._kept), self._renamed, [*self._lost, *attributes])


def _shown(path: Path) -> str:
    text = "/".join(path) or "the root"
    # Names come from the file: nothing in one may move the cursor of a terminal.
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _grouped(paths: list[tuple[Path, str]]) -> list[str]:
    """Put names of one place on one line: "obs, in meta.data: a, b"."""
    lines: dict[tuple[Path, str], list[str]] = {}
    for path, place in paths:
        lines.setdefault((path[:-1], place), []).append(path[-1] if path else "everything, as it is")
    out = []
    for (before, place), names in lines.items():
        what = f"{_shown(before)}, in {place}: " if place else f"{_shown(before)}: " if before else ""
        out.append(what + ", ".join(names))
    return out


def renamed_names(what: str, before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Return a line for each name that has changed; repeated names are distinguished by position."""
    before, after = list(before), list(after)
    times = Counter(before)
    return [
        f"{what}: {old!r}{f' (number {number})' if times[old] > 1 else ''} is {new!r}"
        for number, (old, new) in enumerate(zip(before, after, strict=True), 1)
        if old != new
    ]
