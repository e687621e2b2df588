"""Every element of an AnnData file, as AnnData counts them: a column or a sparse matrix is one, whatever its parts."""

from collections.abc import Iterator

from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup
from cellworker.formats.anndata.elements import is_array, is_group
from cellworker.formats.common.ledger import Element, Path
from cellworker.formats.common.provenance import KEY

__all__ = ["ENCODING", "attributes_of", "elements_of", "encoding_of", "is_element", "own_attributes"]

_WHOLE = frozenset(
    {
        "csr_matrix", "csc_matrix", "categorical", "nullable-integer", "nullable-boolean", "nullable-string-array",
        "awkward-array",
    }
)  # fmt: skip
"""Encodings of groups that are one element."""
_PLACES = frozenset({"layers", "obsm", "obsp", "varm", "varp", "uns", "raw"})
ENCODING = frozenset(
    {"encoding-type", "encoding-version", "_index", "column-order", "shape", "ordered", "categories", "h5sparse_format",
     "h5sparse_shape", "na-value"}
)  # fmt: skip
"""Attributes by which AnnData says how an element is stored."""
_CONTAINER = frozenset({"CLASS", "VERSION", "FILTERS", "FLAVOR", "EXTDIM", "PYTABLES_FORMAT_VERSION"})
"""Attributes that PyTables, with which Cell Ranger writes, puts on every node."""
LEGACY_CATEGORIES = "__categories"
"""Where anndata before 0.8 keeps the labels of a table's columns."""


def encoding_of(node: Node) -> str:
    """Return the encoding that a node declares, "" where it declares none."""
    return str(node.attrs.get("encoding-type", "") or "")


def is_element(node: Node) -> bool:
    """Tell a single element from a group of elements."""
    return is_array(node) or encoding_of(node) in _WHOLE or bool(node.attrs.get("h5sparse_format", ""))


def elements_of(root: TreeGroup) -> Iterator[Element]:
    """Walk over the whole tree; an empty group counts as an element unless it is one of AnnData's own places."""
    waiting: list[tuple[Path, TreeGroup]] = [((), root)]
    while waiting:
        path, group = waiting.pop()
        names = [name for name in group.names() if name != LEGACY_CATEGORIES]
        for name in names:
            node = group.get(name)
            if node is None:
                continue
            where = (*path, name)
            if is_element(node) or not is_group(node):
                yield Element(where, kind_of(node))
            else:
                waiting.append((where, node))
        if not names and not (len(path) <= 1 and (not path or path[0] in _PLACES)) and path[:1] != ("raw",):
            yield Element(path, "an empty group")


def own_attributes(node: Node) -> list[str]:
    """Return the names of a node's attributes beside those that say how it is stored."""
    return [name for name in node.attrs if name not in ENCODING]


def attributes_of(root: TreeGroup) -> Iterator[tuple[Path, str]]:
    """Walk over what all nodes say beside their encodings: the node's path, and the attribute's name.

    Left out are the marks of the program that wrote the container, and cellworker's own record of what made the file.
    """
    waiting: list[tuple[Path, Node]] = [((), root)]
    while waiting:
        path, node = waiting.pop()
        for name in own_attributes(node):
            is_mark = name in _CONTAINER or (not path and name == KEY)
            if not is_mark and not (name == "TITLE" and not node.attrs.get(name)):
                yield path, name
        if is_group(node):
            waiting += [((*path, name), inner) for name in node.names() if (inner := node.get(name)) is not None]


def kind_of(node: Node) -> str:
    """Say what an element is, in words."""
    if is_array(node):
        return _array_kind(node)
    return encoding_of(node) or "a group"


def _array_kind(node: Array) -> str:
    what = "text" if node.dtype is None else "records" if node.dtype.names else node.dtype.name
    return f"{' x '.join(map(str, node.shape))} {what}" if node.shape else f"one {what}"
