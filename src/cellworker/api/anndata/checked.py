"""Checks arguments against their annotations, so that a mistake is named before anything is computed or written."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import wraps
from pathlib import Path
from types import UnionType
from typing import Any, ForwardRef, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

import numpy as np

from cellworker.api.anndata.arguments import hint_of, invalid

__all__ = ["checked", "origin_of"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_Kind = tuple[str, Callable[[Any], bool]]
_SHOWN = 60


def checked(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Refuse arguments whose type is not that of the annotation.

    It checks text, numbers, booleans, None, literals, lists, mappings of names and arrays; other annotations
    are left to the function.

    Raises
    ------
    WorkerError
        By the function that is returned: ``INVALID_INPUT`` naming the argument, what is expected, and what was found.
    TypeError
        By the same, as by any function of Python, for an argument that it does not have.
    """
    signature = inspect.signature(function)
    kinds = {name: _kinds(parameter.annotation) for name, parameter in signature.parameters.items()}

    @wraps(function)
    def held(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        bound = _bound(signature, function.__name__, args, kwargs)
        for name, value in bound.arguments.items():
            known = kinds[name]
            if known and isinstance(value, Iterator):  # read once here, so that whoever looks at it finds all
                bound.arguments[name] = value = list(value)  # noqa: PLW2901
            if known and not any(fits(value) for _, fits in known):
                words = " or ".join(dict.fromkeys(word for word, _ in known if word))
                shown = repr(value)
                raise invalid(
                    name, f"expected {words}, found {shown if len(shown) <= _SHOWN else type(value).__name__}"
                )
        return function(*bound.args, **bound.kwargs)

    return held


def _bound(
    signature: inspect.Signature, function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = [name for name in kwargs if name not in signature.parameters]
        hint = hint_of(unknown[0], signature.parameters) if unknown else ""
        message = f"{function}() {error}{hint}"
    raise TypeError(message)


def _kinds(annotation: Any) -> list[_Kind]:  # noqa: ANN401
    """Return the checks of an annotation; none where a part of it cannot be checked."""
    if annotation == "AnnData":
        return []  # the function says how one is made
    parts: tuple[Any, ...] = (annotation,)
    if isinstance(annotation, str):  # quoted, for what is imported for types alone
        parts = tuple(part.strip() for part in annotation.split("|"))
    elif get_origin(annotation) in (Union, UnionType):
        parts = get_args(annotation)
    found = [_kind(part) for part in parts]
    return [] if None in found else [kind for kind in found if kind is not None]


def origin_of(annotation: Any) -> Any:  # noqa: ANN401
    """Return the class that an annotation is made from; of a named alias, as NumPy 2.5 has for arrays, of its value."""
    origin = get_origin(annotation) or annotation
    value = getattr(origin, "__value__", None)
    return origin if value is None else get_origin(value) or value


def _kind(part: Any) -> _Kind | None:  # noqa: ANN401
    if isinstance(part, str | ForwardRef):
        return _NAMED.get(part if isinstance(part, str) else part.__forward_arg__)
    origin = origin_of(part)
    if origin is Literal:
        options = get_args(part)
        if all(isinstance(option, str) for option in options):
            return " or ".join(map(repr, options)), lambda value: isinstance(value, str)  # which one: the function says
        return None
    if origin is tuple and len(get_args(part)) == 2 and Ellipsis not in get_args(part):
        return "a pair", lambda value: isinstance(value, tuple | list) and len(value) == 2
    if isinstance(origin, type) and issubclass(origin, Enum):  # a default that nobody writes
        return "", lambda value: isinstance(value, origin)
    return _KINDS.get(origin)


def _is_whole(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool_)


_KINDS: dict[Any, _Kind] = {
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("True or False", lambda value: isinstance(value, bool | np.bool_)),
    # A number with decimals where a whole one is due is refused with the limits, by the function.
    int: ("a whole number", lambda value: _is_whole(value) or isinstance(value, float | np.floating)),
    float: ("a number", lambda value: _is_whole(value) or isinstance(value, float | np.floating)),
    None: ("None", lambda value: value is None),
    type(None): ("None", lambda value: value is None),
    np.ndarray: ("an array", lambda value: isinstance(value, Sequence) or hasattr(value, "__array__")),
    Path: ("a path", lambda value: isinstance(value, Path)),
    Mapping: ("a dictionary", lambda value: isinstance(value, Mapping)),
    Iterable: ("a list", lambda value: isinstance(value, Iterable)),
    Sequence: ("a list", lambda value: isinstance(value, Iterable)),
    list: ("a list", lambda value: isinstance(value, Iterable)),
    type: ("a class", lambda value: isinstance(value, type)),
}

_NAMED: dict[str, _Kind] = {
    "None": _KINDS[None],
    "str": _KINDS[str],
    "Path": _KINDS[Path],
    "Series": ("a mask", lambda value: hasattr(value, "__array__")),
    "AnnData": ("an AnnData", lambda value: hasattr(value, "obs_names")),
}
