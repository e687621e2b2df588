"""The explorer in a notebook: a widget whose frame shows the page that a door of this process serves.

A browser on this machine asks the door by its port. Any other (JupyterHub, a kernel elsewhere) asks through the
notebook's own connection, so that nobody has to forward a port.
"""

from pathlib import Path
from typing import Any
from weakref import finalize, ref

from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install
from cellworker.local.embedded import EmbeddedDoor, Held
from cellworker.local.page.pages import NO_EXPLORER, has_explorer

try:
    import anywidget
    import traitlets
except ImportError as error:
    message = f"the explorer in a notebook needs anywidget: {how_to_install('notebook')}"
    raise ImportError(message) from error

__all__ = ["ExplorerWidget", "make_widget"]

MIN_HEIGHT, MAX_HEIGHT = 200, 4000

_SCRIPT = Path(__file__).with_name("view.js").read_text(encoding="utf-8")


class ExplorerWidget(anywidget.AnyWidget):
    """The explorer of one experiment.

    Parameters
    ----------
    held
        The experiment.
    height
        In pixels; may be changed later.
    """

    _esm = _SCRIPT
    port = traitlets.Int().tag(sync=True)
    path = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int().tag(sync=True)

    def __init__(self, held: Held, height: int) -> None:
        me = ref(self)

        def send(content: dict[str, Any], pieces: list[bytes]) -> None:
            widget = me()
            if widget is not None:
                widget.send(content, pieces)

        self._door = EmbeddedDoor(held, send)
        self._title = "an experiment" if held.source is None else held.source.name
        super().__init__(port=self._door.port, path=self._door.path, height=height)
        self.on_msg(self._hear)
        # the door's thread holds the experiment: at the latest it ends with the process
        self._end = finalize(self, self._door.close)

    def _hear(self, _widget: object, content: object, _pieces: object) -> None:
        self._door.receive(content)

    @property
    def url(self) -> str:
        """The address of the page on this machine. Anyone who has it can use it."""
        return self._door.url

    def __repr__(self) -> str:
        """Say what to do, where a saved notebook is read without its kernel."""
        return f"The explorer of {self._title}: run this cell to see it."

    def close(self) -> None:
        """Stop serving, and remove the widget."""
        self._end()
        super().close()


def make_widget(held: Held, height: object) -> ExplorerWidget:
    """Return the widget of an experiment. See `OpenExperiment.view`."""
    if isinstance(height, bool) or not isinstance(height, int) or not MIN_HEIGHT <= height <= MAX_HEIGHT:
        message = f"height: expected a whole number of pixels from {MIN_HEIGHT} to {MAX_HEIGHT}."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    if not has_explorer():
        raise ImportError(NO_EXPLORER)
    return ExplorerWidget(held, height)
