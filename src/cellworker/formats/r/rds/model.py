"""The values of a parsed `.rds` file. None can be executed: code is skipped and leaves `Skipped`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RS4", "REnvironment", "RList", "RNull", "RStrings", "RSymbol", "RValue", "RVector", "Skipped"]

Attributes = dict[str, "RValue"]


@dataclass(slots=True)
class RNull:
    """R's NULL; also the symbol that marks an empty S4 slot."""


@dataclass(slots=True)
class RSymbol:
    """A name."""

    name: str


@dataclass(slots=True)
class Skipped:
    """Something that is code, or ends with an R session: closures, promises, environments, byte code, pointers."""

    kind: str


@dataclass(slots=True)
class REnvironment(Skipped):
    """The environment that an object of a reference class is, and what its fields hold; everybody else skips it."""

    fields: dict[str, "RValue"] = field(default_factory=dict)


@dataclass(slots=True)
class RVector:
    """A logical, integer, double, complex or raw vector.

    Attributes
    ----------
    values
        int32 for logical and integer (NA is the smallest int32), float64 for doubles, uint8 for raw, complex128. A long
        vector is a read-only map of a spool file. Doubles of an S4 slot named ``x`` (sparse values) are float32.
    kind
        "logical", "integer", "double", "complex", "raw".
    attributes
        Names, dim, levels, class and so on.
    """

    values: NDArray[Any]
    kind: str
    attributes: Attributes = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class RStrings(Sequence[str | None]):
    """A character vector: UTF-8 text of all strings end to end, int64 offsets ``(n + 1,)``, and a mask of NA or None.

    Strings become Python objects only when asked for.
    """

    text: bytes
    offsets: NDArray[np.int64]
    missing: NDArray[np.bool_] | None = None
    attributes: Attributes = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, item: Any) -> Any:  # noqa: ANN401
        if isinstance(item, slice):
            return [self[i] for i in range(*item.indices(len(self)))]
        if item < 0:
            item += len(self)
        if not 0 <= item < len(self):
            raise IndexError(item)
        if self.missing is not None and self.missing[item]:
            return None
        return self.text[self.offsets[item] : self.offsets[item + 1]].decode("utf-8", "replace")

    def tolist(self) -> list[str | None]:
        """Return all strings, None for NA."""
        bounds = self.offsets.tolist()
        text = self.text
        out: list[str | None] = [text[a:b].decode("utf-8", "replace") for a, b in pairwise(bounds)]
        if self.missing is not None:
            for i in np.flatnonzero(self.missing):
                out[i] = None
        return out


@dataclass(slots=True)
class RList:
    """A generic vector, or a pairlist (whose tags become names)."""

    items: list["RValue"]
    attributes: Attributes = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def names(self) -> list[str]:
        """The element names, "" where there is none."""
        names = self.attributes.get("names")
        if isinstance(names, RStrings):
            return [name or "" for name in names.tolist()]
        return [""] * len(self.items)

    def get(self, name: str) -> "RValue | None":
        """Return the first element of that name."""
        for key, item in zip(self.names, self.items, strict=False):
            if key == name:
                return item
        return None

    def pairs(self) -> Iterator[tuple[str, "RValue"]]:
        """Iterate over names and elements."""
        return zip(self.names, self.items, strict=False)


@dataclass(slots=True)
class RS4:
    """An S4 object: its slots, without the class."""

    class_name: str
    package: str
    slots: Attributes


RValue = RNull | RSymbol | Skipped | RVector | RStrings | RList | RS4
