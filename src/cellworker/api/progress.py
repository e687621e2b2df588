"""A progress bar for notebooks and terminals: only on what takes longer than a second."""

import time
from typing import Any

from cellworker.plain_text import one_line

__all__ = ["ProgressBar"]

_SHOW_AFTER_S = 1.0
_FORM = "{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}"


class ProgressBar:
    """Called with a stage and the fraction done; shows a bar of `tqdm.auto` after a second, and takes it away at 1.

    Parameters
    ----------
    show_after_s
        How long to stay silent.
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

            self._bar = tqdm(
                total=1.0, bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}", leave=False
            )
        if self._bar is not None:
            self._bar.set_description_str(one_line(stage), refresh=False)
            if fraction is not None:
                self._bar.n = min(1.0, max(0.0, fraction))
            self._bar.refresh()

    def done(self) -> None:
        """Take the bar away; the next report begins again."""
        if self._bar is not None:
            self._bar.close()
        self._bar = self._began = None
