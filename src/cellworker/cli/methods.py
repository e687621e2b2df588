"""Commands made from the methods of `cellworker.api.dataset.Dataset`: one signature defines both.

Options, their types, allowed values and defaults come from a method's signature, their help from its docstring.
Required parameters are positional arguments, and so are following ones of the same type; the rest are options. A method
is inspected when its command runs, so that ``cellworker --help`` imports nothing heavy.
"""

import argparse
import inspect
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin

from cellworker.cli.numbers import number, text_of, whole_number
from cellworker.errors import ErrorCode, WorkerError

__all__ = [
    "METHODS",
    "add_method_arguments",
    "as_on_the_line",
    "check_arguments",
    "docstring_parts",
    "given_arguments",
    "refuse_unknown",
    "tables_of",
]

METHODS: Final[Mapping[str, tuple[str, str]]] = {
    "markers": ("markers", "find the genes that tell each cluster from all other cells"),
    "compare": ("compare", "compare two groups of cells, gene by gene"),
    "compare-samples": ("compare_samples", "compare two groups of samples, gene by gene"),
    "embed": ("embedding", "lay out the cells by UMAP, t-SNE or PCA"),
    "cluster": ("cluster", "cluster the cells"),
    "expression": ("expression", "print the expression of genes in cells"),
    "annotate": ("annotate", "give each cluster a cell type"),
    "trajectory": ("trajectory", "learn the graph along which cells develop"),
    "pseudotime": ("pseudotime", "tell how far each cell has come from the root nodes of a trajectory"),
    "download": ("download", "save the whole experiment, or the matrix of some cells, as a file"),
}
"""Commands, with the methods that they are made from and their help."""

_NOT_ASKED: Final = ("self", "path", "as_")
"""A path to write to is what ``--out`` says."""
_READERS: Final[Mapping[Any, Callable[[str], Any]]] = {int: whole_number, float: number, str: text_of}
_ARGUMENT: Final = re.compile(r"(\w+)(?:\[.*?\])?: ")
_SWITCHED_ON: Final = re.compile(r"\b(\w+)=True\b")
_SECTION: Final = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a type is read from the command line."""

    convert: Callable[[str], Any] = text_of
    choices: tuple[str, ...] | None = None
    many: bool = False
    switch: bool = False


def add_method_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the arguments of a command of `METHODS`."""
    method = _method(command)
    summary, helps = docstring_parts(method.__doc__ or "")
    parser.description = summary
    required: Any = inspect.Parameter.empty
    for name, parameter in _parameters(method).items():
        kind = _kind(parameter.annotation)
        flag, about = f"--{name.replace('_', '-')}", _help(helps.get(name, ""), parameter.default)
        more: dict[str, Any] = {"help": about}
        if kind.switch:
            parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=None, **more)
            continue
        more |= {"type": kind.convert, "choices": kind.choices}
        if kind.choices is None:
            more["metavar"] = name.upper()
        if parameter.default is inspect.Parameter.empty:
            required = parameter.annotation
            parser.add_argument(name, nargs="+" if kind.many else None, **more)
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and _bare(parameter.annotation) == _bare(required):
            parser.add_argument(name, nargs="?", **more)
        else:
            required = inspect.Parameter.empty  # a gap: the parameters after it are options
            parser.add_argument(flag, dest=name, nargs="+" if kind.many else None, **more)


def given_arguments(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Return the arguments that a user gave for a command's method; the others have the method's defaults."""
    values = {name: getattr(options, name) for name in _parameters(_method(command))}
    return {name: value for name, value in values.items() if value is not None}


def tables_of(method: str) -> list[str]:
    """Return the names of the tables that a method of an open experiment returns; none for one that has no name."""
    from cellworker.api.dataset import Dataset  # noqa: PLC0415 heavy

    result = inspect.signature(getattr(Dataset, method)).return_annotation
    return [item.name for item in fields(result)] if is_dataclass(result) else []


def as_on_the_line(command: str, error: WorkerError) -> WorkerError:
    """Return an error of a command's method with its argument named as the command line has it.

    A method begins with ``min_dist:``; on the line that is ``--min-dist``, ``FIRST`` where it has no name there, and
    ``--out`` for the path of a file.
    """
    found = _ARGUMENT.match(error.message)
    if found is None:
        return error
    parser = argparse.ArgumentParser(add_help=False)
    add_method_arguments(parser, command)
    said = {action.dest: (action.option_strings or [action.dest.upper()])[0] for action in parser._actions}  # noqa: SLF001 argparse offers no other way
    said |= {"path": "--out"}
    name = said.get(found[1])
    rest = _SWITCHED_ON.sub(lambda switch: said.get(switch[1], switch[0]), error.message[found.end(1) :])
    return error if name is None else WorkerError(error.code, f"{name}{rest}")


def refuse_unknown(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse arguments of a record that its method does not have.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    for name in given:
        if name not in known:
            message = f"the record: {what} has no argument {name!r}; its arguments are {', '.join(known)}"
            raise WorkerError(ErrorCode.INVALID_INPUT, message)


def check_arguments(method: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a method of `METHODS` does not have; a file may say anything.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    command = next(name for name, (of, _) in METHODS.items() if of == method)
    parameters = _parameters(_method(command))
    refuse_unknown(method, arguments, parameters)
    missing = [n for n, item in parameters.items() if item.default is item.empty and n not in arguments]
    if missing:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"the record: {method} needs the argument {missing[0]!r}")


def docstring_parts(text: str) -> tuple[str, dict[str, str]]:
    """Return the summary of a NumPy docstring, and the text of each parameter."""
    text = inspect.cleandoc(text).replace("``", "").replace("`", "")
    pieces = _SECTION.split(text)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    helps: dict[str, str] = {}
    names: list[str] = []
    for line in sections.get("Parameters", "").splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.partition(":")[0].split(",")]
        else:
            for name in names:
                helps[name] = f"{helps.get(name, '')} {line.strip()}".strip()
    return pieces[0].strip(), helps


def _method(command: str) -> Callable[..., Any]:
    from cellworker.api.dataset import Dataset  # noqa: PLC0415 heavy

    method: Callable[..., Any] = getattr(Dataset, METHODS[command][0])
    return method


def _parameters(method: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {name: item for name, item in inspect.signature(method).parameters.items() if name not in _NOT_ASKED}


def _bare(annotation: Any) -> frozenset[Any]:  # noqa: ANN401
    """Return the members of a type without None."""
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return frozenset(option for option in options if option is not type(None))


def _kind(annotation: Any) -> _Kind:  # noqa: ANN401
    options = _bare(annotation)
    if any(_is_array(option) for option in options):
        return _Kind()  # cells: a key, a barcode or a query; masks are for Python
    for option in options:
        if get_origin(option) is Literal:
            return _Kind(choices=tuple(map(str, get_args(option))))
        if inner := get_args(option):
            return _Kind(convert=_READERS.get(inner[0], inner[0]), many=True)
    if options == {bool}:
        return _Kind(switch=True)
    (convert,) = options
    return _Kind(convert=_READERS.get(convert, convert))


def _is_array(option: Any) -> bool:  # noqa: ANN401
    import numpy as np  # noqa: PLC0415 heavy

    from cellworker.api.anndata.checked import origin_of  # noqa: PLC0415 heavy

    return origin_of(option) is np.ndarray


def _help(text: str, default: Any) -> str:  # noqa: ANN401
    says = default not in (None, inspect.Parameter.empty, "")
    return (f"{text} (default: {default})" if says else text).replace("%", "%%")
