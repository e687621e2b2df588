"""Marks in our own files that show that a matrix is unchanged, and so the kind of its values.

Values alone do not always show the kind: normalised values may be below 0 (an integrated assay), or all 0.
Changing the matrix changes its mark, and then the values decide, as in any file.
"""

from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.anndata.elements import is_array, is_group
from cellworker.formats.common.matrices.marks import mark as mark_of_parts
from cellworker.formats.common.matrices.marks import samples

__all__ = ["is_marked"]


def is_marked(root: TreeGroup, what: str, path: str) -> bool:
    """Return whether the matrix at a path is the one that cellworker wrote there as `what`: data or counts."""
    marks, matrix = root.get("uns/cellworker/matrices"), root.get(path)
    mark = marks.get(what) if is_group(marks) else None
    values = matrix.get("data") if is_group(matrix) else None
    if not is_array(mark) or mark.dtype is not None or not is_array(values) or len(values.shape) != 1:
        return False
    if values.dtype is None or values.dtype.kind not in "iuf":
        return False
    found = [values.read(start, stop) for start, stop in samples(values.shape[0])]
    return mark.texts() == [mark_of_parts(values.shape[0], found)]
