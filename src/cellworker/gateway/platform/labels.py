"""Which experiment this pod works for: its labels, as Kubernetes writes them to a file, else the environment."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cellworker.formats.common.whole_files import write_whole
from cellworker.identifiers import ExperimentId, Identifier, QueueHash, SandboxId, parse
from cellworker.logs import log
from cellworker.settings import Settings

__all__ = ["PodLabels", "assigned_folder", "parse_labels", "point_engine"]

_DEVELOPMENT_ID = ExperimentId("test-experiment-id")
_SERVE = ".serve"
_LINE = re.compile(r'([^\s="]+)="((?:[^"\\]|\\.)*)"\s*', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_logger = logging.getLogger(__name__)

_T = TypeVar("_T", bound=Identifier)
_Signature = tuple[int, int, int]
_UNREADABLE: _Signature = (-1, -1, -1)


class PodLabels:
    """The labels that tell what this pod works for; a label that appears later, or changes, is seen at the next look.

    A label that is no name of its kind is logged once, and counts as none.

    Parameters
    ----------
    settings
        Where the file is, and the values for labels that the pod does not have.
    development_default
        Whether the experiment is ``test-experiment-id`` in development, where neither label nor setting names one.
    """

    def __init__(self, settings: Settings, *, development_default: bool = True) -> None:
        self._settings = settings
        development = settings.cluster_env.lower() == "development" if settings.cluster_env else not settings.k8s_env
        self._default_id = _DEVELOPMENT_ID if development_default and development else None
        self._signature: _Signature | None = None
        self._labels: dict[str, str] = {}

    @property
    def experiment_id(self) -> ExperimentId | None:
        """The experiment; None while the pod has none."""
        return self._name(ExperimentId, self._settings.experiment_id) or self._default_id

    @property
    def labelled(self) -> bool:
        """Whether the pod has a label that says which experiment."""
        return ExperimentId.fits(self._look("experimentId"))

    @property
    def sandbox_id(self) -> SandboxId | None:
        """The sandbox; None where nothing says it."""
        return self._name(SandboxId, self._settings.sandbox_id)

    @property
    def work_queue_hash(self) -> QueueHash | None:
        """The hash in the queue's name; None where nothing says it."""
        return self._name(QueueHash, self._settings.work_queue_hash)

    def _name(self, kind: type[_T], fallback: str) -> _T | None:
        """Return the label of a kind, else what the settings say."""
        label = self._look(kind.KIND)
        found = parse(kind, label, "label") if label else None
        return found or (parse(kind, fallback, "setting") if fallback else None)

    def _look(self, key: str) -> str:
        """Return a label; a changed file is read again, and the last known labels stay where it cannot be read."""
        path = self._settings.labels_file
        try:
            signature = _signature_of(path)
            if signature != self._signature:
                self._labels = parse_labels(path.read_text("utf-8", errors="replace"))
                self._signature = signature
        except FileNotFoundError:
            self._labels, self._signature = {}, None
        except OSError as error:
            if self._signature != _UNREADABLE:
                log(_logger, logging.WARNING, "labels cannot be read", path=str(path), reason=error.strerror)
            self._signature = _UNREADABLE
        return self._labels.get(key, "")


def parse_labels(text: str) -> dict[str, str]:
    """Read a file of the downward API: lines of ``key="value"``, the value quoted as by ``strconv.Quote`` of Go.

    ``FormatMap`` of kubernetes/pkg/fieldpath writes it so: ``fmt.Fprintf("%v=%q")``. Other lines are
    skipped.
    """
    labels: dict[str, str] = {}
    for line in text.split("\n"):
        found = _LINE.fullmatch(line)
        if found:
            labels[found[1]] = _unquoted(found[2])
    return labels


def assigned_folder(labels: PodLabels, data_dir: Path) -> Callable[[], Path | None]:
    """Return a function that returns the folder of the experiment to serve, None while there is none.

    The pod's own experiment comes first; where it has none, the one that `point_engine` named.
    """

    def folder() -> Path | None:
        name = labels.experiment_id or _pointed_at(data_dir)
        return data_dir / name if name else None

    return folder


def point_engine(data_dir: Path, experiment_id: ExperimentId | None) -> None:
    """Tell the engine which experiment to serve where the pod has none of its own; None takes that back."""
    if experiment_id == _pointed_at(data_dir):
        return
    if experiment_id is None:
        (data_dir / _SERVE).unlink(missing_ok=True)
        return
    write_whole(data_dir / _SERVE, experiment_id.encode())


def _pointed_at(data_dir: Path) -> ExperimentId | None:
    try:
        text = (data_dir / _SERVE).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return parse(ExperimentId, text, _SERVE) if text else None


def _signature_of(path: Path) -> _Signature:
    status = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat, at every request
    return status.st_mtime_ns, status.st_size, status.st_ino


def _unquoted(text: str) -> str:
    r"""Undo Go's quoting.

    ``\x`` stands for a byte that is no UTF-8; those in a row are read together, so that nothing is lost where they are.
    """
    out = bytearray()
    end = 0
    for found in _ESCAPE.finditer(text):
        out += text[end : found.start()].encode()
        end = found.end()
        byte, short, long, simple = found.groups()
        if byte:
            out.append(int(byte, 16))
        elif simple:
            out += _SIMPLE.get(simple, simple).encode()
        else:
            code = int(short or long, 16)
            out += (
                chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\N{REPLACEMENT CHARACTER}"
            ).encode()
    out += text[end:].encode()
    return out.decode("utf-8", errors="replace")
