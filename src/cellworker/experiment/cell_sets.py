"""The cell sets of an experiment (contract 6.1): classes, their sets, and the cells in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.bitmaps import CellTotal, cells_of_bitmap, is_bitmap
from cellworker.experiment.id_sets import union
from cellworker.experiment.json_kinds import json_kind

__all__ = ["MAX_SELECTIONS", "CellClass", "CellSet", "CellSets"]

MAX_SELECTIONS = 2000
"""Max selections in one list of keys: unlike for named sets, the file does not limit their number."""
_UNITED_AT_ONCE = 1 << 22
"""Max cell ids held before they are united: 16 MiB."""
_MAX_PROBLEMS_SHOWN = 20
_MAX_CELL_ID = 2**31 - 1
_PLATFORM_CLUSTERS = "louvain"
"""The key by which the platform's programs request the clusters in use, whatever their method (contract 6.1)."""


@dataclass(frozen=True, slots=True)
class CellSet:
    """A named set of cells.

    Attributes
    ----------
    key, name
        Identity and display name; names may repeat.
    color
        Hex string; None where the pool ran out.
    cell_ids
        int32, read-only, in the file's order; may include ids of cells that quality control removed.
    type
        None where the file has none, as for samples and metadata tracks.
    extra
        Fields that cellworker does not use, unchanged.
    """

    key: str
    name: str
    color: str | None
    cell_ids: NDArray[np.int32]
    type: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CellClass:
    """A class of cell sets, for example a clustering or the samples."""

    key: str
    name: str
    type: str | None
    children: list[CellSet]
    root_node: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def column(self) -> str:
        """The file's column behind the class; empty for classes from elsewhere."""
        found = self.extra.get("column")
        return found if isinstance(found, str) else ""

    def cell_ids(self) -> NDArray[np.int32]:
        """Return the union of the sets: int32, ascending, without repetitions."""
        return union([child.cell_ids for child in self.children])


@dataclass(frozen=True, slots=True)
class CellSets:
    """All classes, in the user's order. Lookups change nothing.

    A class is found by its key, and by the name of its column. Sets that were derived from a file's own columns
    (`formats.common.cells.derive`) name the class of the clusters in use in ``extra["clusters"]``; in the platform's
    own files that is the class ``louvain``.

    Attributes
    ----------
    classes
        The classes.
    extra
        Further fields of the file.
    wire
        Whether ``louvain`` means the clusters in use where no class has that name.
    """

    classes: list[CellClass]
    extra: Mapping[str, Any] = field(default_factory=dict)
    wire: bool = False

    @classmethod
    def empty(cls) -> "CellSets":
        """Return cell sets without classes."""
        return cls([])

    @classmethod
    def parse(cls, content: bytes) -> "CellSets":
        """Read a cell_sets.json. A set of one cell may be a bare number, as R writes it.

        Raises
        ------
        WorkerError
            ``CELL_SETS_INVALID`` naming every problem with its JSON path.
        """
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise WorkerError(ErrorCode.CELL_SETS_INVALID, f"The cell sets are not JSON: {error}.") from None
        return cls.parse_document(document)

    @classmethod
    def parse_document(cls, document: Any) -> "CellSets":  # noqa: ANN401 - JSON
        """Read a parsed cell_sets.json; lists of ids may already be int32 arrays.

        Raises
        ------
        WorkerError
            As `parse`.
        """
        reader = _Reader()
        parsed = reader.document(document)
        if reader.problems:
            shown = reader.problems[:_MAX_PROBLEMS_SHOWN]
            more = len(reader.problems) - len(shown)
            tail = f"; and {more} more" if more else ""
            raise WorkerError(ErrorCode.CELL_SETS_INVALID, f"The cell sets break the format: {'; '.join(shown)}{tail}.")
        return parsed

    def encode(self) -> bytes:
        """Return the file's content, compact. Every set has a list of ids, however few."""
        document = {
            "cellSets": [
                {
                    "key": item.key,
                    "name": item.name,
                    "rootNode": item.root_node,
                    **({} if item.type is None else {"type": item.type}),
                    **item.extra,
                    "children": [_set_to_json(child) for child in item.children],
                }
                for item in self.classes
            ],
            **self.extra,
        }
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)

    @property
    def keys(self) -> list[str]:
        """The keys of all classes and sets, in the file's order."""
        return [key for item in self.classes for key in (item.key, *(child.key for child in item.children))]

    @property
    def repeated_keys(self) -> list[str]:
        """Keys that occur more than once. Lookups find the first one; `check` tells the owner of the file."""
        seen: set[str] = set()
        return [key for key in self.keys if key in seen or seen.add(key)]  # type: ignore[func-returns-value]

    def sets(self) -> Iterator[tuple[CellClass, CellSet]]:
        """Iterate over every set with its class."""
        for item in self.classes:
            yield from ((item, child) for child in item.children)

    @property
    def derived(self) -> bool:
        """Whether the sets come from a file's own columns."""
        return isinstance(self.extra.get("clusters"), str)

    @property
    def clusters(self) -> CellClass | None:
        """The class of the clusters in use."""
        named = self.extra.get("clusters", _PLATFORM_CLUSTERS)
        found = next((item for item in self.classes if item.key == named), None)
        if found is None and self.derived:  # the class was removed: the next clustering is in use
            others = (item for item in self.classes if item.type == "cellSets" and item.key != "scratchpad")
            return next((item for item in others if item.children), None)
        return found

    def for_wire(self) -> "CellSets":
        """Return the same sets for the platform's programs, which call the clusters in use ``louvain``."""
        return replace(self, wire=True)

    def by_platform_key(self) -> dict[str, CellClass]:
        """Return the classes by the platform's keys, where ``louvain`` is the clusters in use.

        The first of several classes with the same key counts. A file's own class ``louvain`` that is not in use is
        called ``louvain (column)`` here.
        """
        clusters = self.clusters if self.derived else None
        out: dict[str, CellClass] = {}
        for item in reversed(self.classes):
            own = f"{_PLATFORM_CLUSTERS} (column)" if item.key == _PLATFORM_CLUSTERS and clusters else item.key
            out[_PLATFORM_CLUSTERS if item is clusters else own] = item
        return dict(reversed(out.items()))

    def find_class(self, key: str) -> CellClass | None:
        """Return the class that `classes_by_key` has by the key."""
        return self.classes_by_key().get(key)

    def classes_by_key(self) -> dict[str, CellClass]:
        """Return the classes by their names: the first class with the key, else the first with the column."""
        columns = {item.column: item for item in reversed(self.classes) if item.column}
        out = columns | {item.key: item for item in reversed(self.classes)}
        if self.wire and self.clusters is not None:
            out.setdefault(_PLATFORM_CLUSTERS, self.clusters)
        return out

    def find_set(self, key: str) -> CellSet | None:
        """Return the first set with the key, else the set that has it by another name of its class."""
        found = next((child for _, child in self.sets() if child.key == key), None)
        return found or next((child for _, child in self._other_names(key)), None)

    def class_of(self, key: str) -> CellClass | None:
        """Return the class of the first set with the key."""
        found = next((item for item, child in self.sets() if child.key == key), None)
        return found or next((item for item, _ in self._other_names(key)), None)

    def _other_names(self, key: str) -> Iterator[tuple[CellClass, CellSet]]:
        """Find sets by other names of their classes: ``donor-A`` is the set ``sample-A`` of the samples ``donor``."""
        for item in self.classes:
            names = [item.column] if item.column and item.column != item.key else []
            if self.wire and item is self.clusters:
                names.append(_PLATFORM_CLUSTERS)
            for name in names:
                if key.startswith(f"{name}-"):
                    same = f"{item.key}-{key.removeprefix(f'{name}-')}"
                    yield from ((item, child) for child in item.children if child.key == same)

    def cells_of(self, key: str, what: str = "cell set") -> NDArray[np.int32]:
        """Return the cells of a set, of a class, or of a bitmap: int32, ascending, without repetitions.

        A class means the union of its sets. A key without a set may hold the cells themselves (`bitmaps`).

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming the key (`what` is the request's field) when there is no such set or class.
        """
        found = self.find_set(key)
        if found is not None:
            return union([found.cell_ids])
        parent = self.find_class(key)
        if parent is not None:
            return parent.cell_ids()
        if is_bitmap(key):
            return cells_of_bitmap(key, what)
        message = f"{what}: the experiment has no cell set or class with the key {key!r}"
        # The platform's own files keep the original message.
        known = ", ".join(item.key for item in self.classes)
        message += f"; its classes are {known}." if self.derived else "."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)

    def sets_by_key(self) -> dict[str, CellSet]:
        """Return the first set of every key; for many lookups, since each single lookup walks over all sets."""
        return {child.key: child for _, child in reversed(list(self.sets()))}

    def cells_of_all(self, keys: Sequence[str], what: str, total: CellTotal | None = None) -> NDArray[np.int32]:
        """Return the union of the cells of all keys: int32, ascending, without repetitions.

        The method never holds the cells of all keys at once, and limits their total number.

        Parameters
        ----------
        keys
            As for `cells_of`; a repeated key counts once.
        what
            The request's field, for messages.
        total
            Counts the cells of the request's other lists too; None where there are none.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` as `cells_of`; for more than 2,000 selections; for more cells than
            `bitmaps.MAX_NAMED_CELLS` together.
        """
        distinct, named = dict.fromkeys(keys), self.sets_by_key()
        total = total or CellTotal(what)
        n_selections = sum(is_bitmap(key) and key not in named for key in distinct)
        if n_selections > MAX_SELECTIONS:
            message = f"{what}: names {n_selections:,} selections; expected {MAX_SELECTIONS:,} at most."
            raise WorkerError(ErrorCode.INVALID_INPUT, message)
        parts, held = [np.empty(0, np.int32)], 0
        for key in distinct:
            cells = named[key].cell_ids if key in named else self.cells_of(key, what)
            total.add(len(cells))
            parts.append(cells)
            held += len(cells)
            if held > _UNITED_AT_ONCE:
                parts, held = [union(parts)], 0
        return union(parts)

    def all_cell_ids(self) -> NDArray[np.int32]:
        """Return every cell id in the file: int32, ascending, without repetitions."""
        return union([child.cell_ids for _, child in self.sets()])


def _set_to_json(item: CellSet) -> dict[str, Any]:
    return {
        "key": item.key,
        "name": item.name,
        **({} if item.type is None else {"type": item.type}),
        **item.extra,
        "color": item.color,
        "cellIds": np.ascontiguousarray(item.cell_ids),
    }


class _Reader:
    """Reads the parsed JSON, and continues after a problem to collect all of them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def document(self, value: Any) -> CellSets:  # noqa: ANN401
        if not isinstance(value, dict) or not isinstance(value.get("cellSets"), list):
            self.problems.append("$: expected an object with the array cellSets")
            return CellSets.empty()
        classes = [self.cell_class(item, f"$.cellSets[{i}]") for i, item in enumerate(value["cellSets"])]
        extra = {key: item for key, item in value.items() if key != "cellSets"}
        return CellSets(classes, extra)

    def cell_class(self, value: Any, path: str) -> CellClass:  # noqa: ANN401
        if not isinstance(value, dict):
            self.problems.append(f"{path}: expected an object, found {json_kind(value)}")
            value = {}
        children = value.get("children", [] if not value else None)
        if not isinstance(children, list):
            self.problems.append(f"{path}.children: expected an array, found {json_kind(children)}")
            children = []
        root = value.get("rootNode", True)
        return CellClass(
            key=self.text(value, "key", path),
            name=self.text(value, "name", path),
            type=self.optional_text(value, "type", path),
            children=[self.cell_set(child, f"{path}.children[{i}]") for i, child in enumerate(children)],
            root_node=root is not False,
            extra={k: v for k, v in value.items() if k not in ("key", "name", "type", "children", "rootNode")},
        )

    def cell_set(self, value: Any, path: str) -> CellSet:  # noqa: ANN401
        if not isinstance(value, dict):
            self.problems.append(f"{path}: expected an object, found {json_kind(value)}")
            value = {"key": path, "name": "", "cellIds": []}
        elif value.get("children"):
            self.problems.append(f"{path}.children: a set cannot hold sets, there are only two levels")
        return CellSet(
            key=self.text(value, "key", path),
            name=self.text(value, "name", path),
            color=self.optional_text(value, "color", path),
            cell_ids=self.cell_ids(value.get("cellIds"), f"{path}.cellIds"),
            type=self.optional_text(value, "type", path),
            extra={k: v for k, v in value.items() if k not in ("key", "name", "type", "color", "cellIds")},
        )

    def text(self, value: dict[str, Any], name: str, path: str) -> str:
        found = value.get(name)
        if isinstance(found, str):
            return found
        if value:
            self.problems.append(f"{path}.{name}: expected text, found {json_kind(found)}")
        return path

    def optional_text(self, value: dict[str, Any], name: str, path: str) -> str | None:
        found = value.get(name)
        if found is not None and not isinstance(found, str):
            self.problems.append(f"{path}.{name}: expected text, found {json_kind(found)}")
            return None
        return found

    def cell_ids(self, value: Any, path: str) -> NDArray[np.int32]:  # noqa: ANN401
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
            return value
        if type(value) is int:
            value = [value]
        if not isinstance(value, list):
            self.problems.append(f"{path}: expected an array of integers, found {json_kind(value)}")
            return np.empty(0, np.int32)
        kinds = set(map(type, value))
        if float in kinds:  # 1.0 is the integer 1 in JSON and in the platform's programs
            value = [int(item) if type(item) is float and item.is_integer() else item for item in value]
            kinds = set(map(type, value))
        if kinds - {int}:
            where = next(i for i, item in enumerate(value) if type(item) is not int)
            self.problems.append(f"{path}[{where}]: expected an integer, found {json_kind(value[where])}")
            return np.empty(0, np.int32)
        if value and not (min(value) >= 0 and max(value) <= _MAX_CELL_ID):
            where = next(i for i, item in enumerate(value) if not 0 <= item <= _MAX_CELL_ID)
            self.problems.append(f"{path}[{where}]: {value[where]} is not a cell id (0 to {_MAX_CELL_ID})")
            return np.empty(0, np.int32)
        ids = np.array(value, np.int32)
        ids.flags.writeable = False
        return ids
