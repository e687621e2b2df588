"""Provenance of pictures: each drawing function notes it on its axes, and `save` writes it into the file."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec
from weakref import WeakKeyDictionary

from cellworker.api.dataset import Dataset
from cellworker.api.records import PICTURE_PREFIX, plain_arguments
from cellworker.formats.common.provenance import Provenance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["drawn", "made_by"]

_P = ParamSpec("_P")
_made: "WeakKeyDictionary[Axes, list[Provenance]]" = WeakKeyDictionary()


def drawn(function: "Callable[_P, Axes]") -> "Callable[_P, Axes]":
    """Make a saved picture record a function that draws on its axes; it stands below `checked`.

    Of an open experiment the source and the steps before are known; of an AnnData or a table in memory, the arguments.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def asked(*args: _P.args, **kwargs: _P.kwargs) -> "Axes":
        call = signature.bind(*args, **kwargs)
        axes = function(*call.args, **call.kwargs)
        given = dict(call.arguments)
        source = given.pop(next(iter(signature.parameters)))
        task, told = f"{PICTURE_PREFIX}{function.__name__}", plain_arguments(given, _texts)
        if isinstance(source, Dataset):
            _made[axes] = [*source.steps, source.record(task, told)]
        else:
            _made[axes] = [Provenance.of(task, told)]
        return axes

    return asked


def made_by(figure: "Figure") -> list[Provenance]:
    """Return the steps that made the axes of a figure, in order, each once."""
    out: list[Provenance] = []
    for axes in figure.axes:
        out += [record for record in _made.get(axes, []) if record not in out]
    return out


def _texts(argument: str, value: Any) -> list[str]:  # noqa: ANN401, ARG001 what `plain_arguments` says
    return [str(item) for item in value] if isinstance(value, Iterable) else [str(value)]
