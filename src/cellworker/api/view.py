"""The explorer in a notebook: a widget whose frame shows the page that a server in this process serves."""

from weakref import finalize

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

# The page is asked for under the name that the notebook itself is open under: browsers treat two names of this machine
# as two sites. Where the kernel runs on another machine, its loopback is not this browser's: that is said.
_SCRIPT = """
function render({ model, el }) {
  const local = ["localhost", "127.0.0.1"].includes(location.hostname);
  const url = `http://${local ? location.hostname : "127.0.0.1"}:${model.get("port")}${model.get("path")}`;
  const frame = document.createElement("iframe");
  frame.title = "cellworker explorer";
  frame.allow = "clipboard-write";
  frame.style.cssText = "display: block; width: 100%; border: 1px solid #8884; border-radius: 6px";
  frame.style.height = `${model.get("height")}px`;
  const resized = () => (frame.style.height = `${model.get("height")}px`);
  model.on("change:height", resized);
  const away = () => {
    const said = document.createElement("p");
    said.setAttribute("role", "alert");
    said.textContent = `The explorer listens on port ${model.get("port")} of the machine that this notebook's kernel `
      + "runs on, and this browser does not reach it: the kernel has ended, the view was closed, or it runs on another "
      + "machine. Run the cell again, or forward the port (ssh -L).";
    el.replaceChildren(said);
  };
  fetch(`${url}health`, { mode: "no-cors" }).then(() => { frame.src = url; el.append(frame); }, away);
  return () => model.off("change:height", resized);
}
export default { render };
"""


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
        self._door = EmbeddedDoor(held)
        super().__init__(port=self._door.port, path=self._door.path, height=height)
        # the door's thread holds the experiment: at the latest it ends with the process
        self._end = finalize(self, self._door.close)

    @property
    def url(self) -> str:
        """The address of the page on this machine. Anyone who has it can use it."""
        return self._door.url

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
