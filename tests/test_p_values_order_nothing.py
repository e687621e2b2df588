"""No module sorts or compares p-values but `analysis/statistics/p_values.py`: the doubles of the smallest are all 0."""

import ast
import re
from pathlib import Path

import pytest

import cellworker

PACKAGE = Path(cellworker.__file__).parent
ORDERING = {
    "argmax", "argmin", "argpartition", "argsort", "heapify", "lexsort", "max", "min", "nanargmax", "nanargmin",
    "nlargest", "nsmallest", "ordered_rows", "partition", "rankdata", "searchsorted", "sort", "sort_values", "sorted",
    "unique",
}  # fmt: skip
"""Whatever puts values in order or picks one by its order, by the last part of its name."""

P_VALUE = re.compile(
    r"p|p_?vals?|p_?values?|(p_)?(adj|adjusted)|p_?adj|p_?val_?adj|log_?(10_?)?p(_adj)?", re.IGNORECASE
)
KEYS = {"key", "keys", "score", "log"}
"""What may order: attributes of what tests hand over."""


def tells_p_values(node: ast.AST) -> bool:
    """Whether an expression is made of p-values, and not of their keys."""
    if isinstance(node, ast.Attribute):
        return node.attr not in KEYS and (bool(P_VALUE.fullmatch(node.attr)) or tells_p_values(node.value))
    if isinstance(node, ast.Name):
        return bool(P_VALUE.fullmatch(node.id))
    if isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return bool(P_VALUE.fullmatch(node.slice.value)) or tells_p_values(node.value)
        return tells_p_values(node.value)
    return any(tells_p_values(child) for child in ast.iter_child_nodes(node))


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def mistakes(source: str) -> list[int]:
    """The lines that order or compare by p-values."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and name_of(node.func) in ORDERING:
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            if isinstance(node.func, ast.Attribute):
                given.append(node.func.value)
            if any(tells_p_values(item) for item in given):
                lines.append(node.lineno)
        if isinstance(node, ast.Compare) and any(
            isinstance(operator, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) for operator in node.ops
        ):
            sides = [node.left, *node.comparators]
            if sum(tells_p_values(side) for side in sides) > 1:  # with one another, not with a level
                lines.append(node.lineno)
    return sorted(lines)


@pytest.mark.parametrize(
    "source",
    [
        "np.argsort(p)", "np.argsort(-tests.p[0], kind='stable')", "order = np.lexsort((gene, p[rows]))",
        "rows.sort(key=lambda row: row['p_val'])", "np.argmin(np.where(qualifies, tests.p, np.inf), axis=0)",
        "sorted(rows, key=lambda row: row.p_val_adj)", "ordered_rows(result.p)", "table['p_val'].argsort()",
        "frame.sort_values(by=frame.p_val)", "p_values.values.argsort()", "best = a.p_val < b.p_val",
        "np.argsort(adjusted)", "min(p_values.values)", "stats.rankdata(columns['log10_p'])",
    ],
)  # fmt: skip
def test_the_mistake_is_seen_in_all_its_forms(source):
    assert mistakes(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "np.argsort(p_values.key)", "np.lexsort((gene, tests.keys[rows]))", "p_values.values < 0.01", "np.sort(x)",
        "ordered_rows(columns['logFC'])", "np.argmin(key, axis=0)", "tests.p[0] > _LEVEL", "np.flatnonzero(p < 1)",
    ],
)  # fmt: skip
def test_keys_and_levels_are_no_mistake(source):
    assert mistakes(source) == []


def test_nothing_outside_their_own_module_orders_or_compares_p_values():
    found = {
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "p_values.py"
        for line in mistakes(path.read_text(encoding="utf-8"))
    }
    assert not found, f"order by PValues.key, not by p-values: {', '.join(sorted(found))}"
    assert mistakes((PACKAGE / "analysis" / "statistics" / "p_values.py").read_text(encoding="utf-8"))
