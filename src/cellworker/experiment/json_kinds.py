"""Names of JSON's kinds of values, for messages about refused documents."""

from typing import Any

__all__ = ["json_kind"]

_NAMES = {bool: "true or false", int: "a number", float: "a fraction", str: "text", list: "an array"}


def json_kind(value: Any) -> str:  # noqa: ANN401
    """Return the kind of a JSON value."""
    return "nothing" if value is None else _NAMES.get(type(value), "an object")
