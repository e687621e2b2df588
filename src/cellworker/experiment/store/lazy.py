"""A mapping that computes each value on first access."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

__all__ = ["Lazy"]

T = TypeVar("T")


class Lazy(Mapping[str, T], Generic[T]):
    """A mapping that computes each value on first access."""

    def __init__(self, readers: dict[str, Callable[[], T]]) -> None:
        self._readers = readers
        self._values: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._values:
            self._values[name] = self._readers[name]()
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)
