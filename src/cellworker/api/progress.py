"""A progress bar for notebooks and terminals: only on what takes longer than a second."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

from cellworker.plain_text import one_line
from cellworker.progress import of_threads

__all__ = ["ProgressBar", "reporter", "with_bar"]

_SHOW_AFTER_S = 1.0
_FORM = "{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}"

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class ProgressBar:
    """Called with a stage and the fraction done; shows a bar of `tqdm.auto` after a second, and removes it at 1.

    Parameters
    ----------
    show_after_s
        Seconds before the bar appears.
    """

    def __init__(self, show_after_s: float = _SHOW_AFTER_S) -> None:
        self._show_after_s = show_after_s
        self._began: float | None = None
        self._bar: Any = None

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        """Report."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        if self._bar is None and now - self._began >= self._show_after_s:
            from tqdm.auto import tqdm  # noqa: PLC0415 only notebooks need it

            self._bar = of_threads(tqdm)(total=1.0, bar_format=_FORM, leave=False)
        if self._bar is not None:
            self._bar.set_description_str(one_line(stage), refresh=False)
            if fraction is not None:
                self._bar.n = min(1.0, max(0.0, fraction))
            self._bar.refresh()

    def done(self) -> None:
        """Remove the bar; the next report begins again."""
        if self._bar is not None:
            self._bar.close()
        self._bar = self._began = None


class _Ticking(AbstractContextManager["_Ticking"]):
    """A bar that appears after a second by itself, whether or not the work reports progress."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._fraction = 0.0
        # Only the clock redraws it while it runs: reports of the work only set its position.
        self._bar = ProgressBar(_SHOW_AFTER_S)
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._show()
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._clock.join()
        self._bar.done()

    def at(self, stage: str, fraction: float) -> None:
        """Set the progress; the clock shows it."""
        self._stage, self._fraction = stage, fraction

    def _show(self) -> None:
        self._bar(self._stage, self._fraction)

    def _tick(self) -> None:
        while not self._ended.wait(_SHOW_AFTER_S / 2):
            self._show()


_current: ContextVar[_Ticking | None] = ContextVar("current", default=None)


def with_bar(stage: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Show a bar while a function runs longer than a second; functions that it calls share the bar.

    Parameters
    ----------
    stage
        The function's work, in words for the user.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(function)
        def shown(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            outer = _current.get()
            if outer is not None:
                outer.at(stage, 0.0)
                return function(*args, **kwargs)
            with _Ticking(stage) as bar:
                token = _current.set(bar)
                try:
                    return function(*args, **kwargs)
                finally:
                    _current.reset(token)

        return shown

    return decorate


def reporter(stage: str, first: float = 0.0, last: float = 1.0) -> Callable[[float], None]:
    """Return a callback for the fraction done of a part of the work, which moves the bar from `first` to `last`."""
    bar = _current.get()
    if bar is None:
        return lambda fraction: None  # noqa: ARG005
    shown = bar

    def report(fraction: float) -> None:
        shown.at(stage, first + (last - first) * fraction)

    report(0.0)
    return report
