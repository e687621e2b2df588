"""A progress bar at a terminal: it appears after a while, and goes when the answer is there."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from cellworker.plain_text import one_line
from cellworker.progress import of_threads

__all__ = ["Bar"]

_SHOW_AFTER_S = 1.0


class Bar:
    """Shows stages and percent on standard error when it is a terminal and the work takes longer than a second.

    Parameters
    ----------
    quiet
        Never show anything.
    show_after_s
        Seconds before the bar appears.
    """

    def __init__(self, *, quiet: bool = False, show_after_s: float = _SHOW_AFTER_S) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._from = time.monotonic() + show_after_s
        self._bar: Any = None

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        """Report a stage in words and, where known, the fraction done (0 to 1)."""
        if not self._shown or time.monotonic() < self._from:
            return
        if self._bar is None:
            from tqdm import tqdm  # noqa: PLC0415

            form = "{desc} {percentage:3.0f}% |{bar:24}| {elapsed}<{remaining}"
            self._bar = of_threads(tqdm)(total=1.0, bar_format=form, leave=False, file=sys.stderr)
        self._bar.set_description_str(one_line(stage), refresh=False)
        if fraction is not None:
            self._bar.n = min(1.0, max(0.0, fraction))
        self._bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
