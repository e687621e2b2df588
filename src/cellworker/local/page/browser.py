"""Opening a page in the browser of the person who started the worker."""

import sys
import threading
import webbrowser
from collections.abc import Mapping
from typing import TextIO

__all__ = ["is_desktop", "open_page"]


def is_desktop(environment: Mapping[str, str], output: TextIO, platform: str = sys.platform) -> bool:
    """Whether a person uses this machine's screen: a terminal, a display, no remote login, no CI."""
    if not output.isatty() or any(environment.get(name) for name in ("CI", "SSH_CONNECTION", "SSH_TTY")):
        return False
    # macOS always has a display where there is a terminal.
    return platform == "darwin" or any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def open_page(url: str) -> None:
    """Open an address without waiting for the browser; where there is none, nothing happens."""
    # A thread of its own: some browsers' launchers only return when the browser is closed.
    threading.Thread(target=_open, args=(url,), daemon=True, name="browser").start()


def _open(url: str) -> None:
    try:
        webbrowser.open(url)
    except webbrowser.Error:
        return
