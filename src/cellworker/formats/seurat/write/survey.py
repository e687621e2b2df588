"""A first pass over a Seurat object in a file: names and places that must be known before it is copied."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RStrings, RSymbol, RValue, RVector
from cellworker.formats.r.rds.reader import ObjectReader, object_header
from cellworker.formats.r.rds.refusals import damaged
from cellworker.formats.r.rds.scan import HAS_ATTRIBUTES, HAS_TAG
from cellworker.formats.r.rds.spool import Spool
from cellworker.formats.r.rds.stream import ByteStream
from cellworker.formats.r.values import NA_INTEGER

__all__ = ["AssaySurvey", "SeuratSurvey", "row_names", "survey_seurat"]

_LIST, _PAIRLIST, _S4, _END = 19, 2, 25, 254


@dataclass(frozen=True, slots=True)
class AssaySurvey:
    """An assay: its name, and for each of its layers (class Assay5) the name and the R package of the layer's class."""

    name: str
    layers: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class SeuratSurvey:
    """The outcome of the pass.

    Attributes
    ----------
    package
        The R package of the object's class.
    columns, rows, n_rows
        Of ``meta.data``; `rows` None where they are numbered.
    reductions
        Names of the reductions.
    assay
        The active assay.
    assays
        All assays, in their order.
    sha256
        Of the file, in hex.
    """

    package: str
    columns: list[str]
    rows: list[str] | None
    n_rows: int
    reductions: list[str]
    assay: str
    assays: list[AssaySurvey]
    sha256: str


def survey_seurat(
    source: Path, limits: Limits | None = None, on_bytes: Callable[[int, int], None] | None = None
) -> SeuratSurvey:
    """Look through a file; vectors are passed over, not read.

    Raises
    ------
    WorkerError
        As `read_rds`; ``EXPERIMENT_UNSUPPORTED`` when it holds something else than an object of Seurat 3 or later.
    """
    limits = limits or Limits()
    stream = ByteStream(source, limits, on_bytes)
    try:
        _, native = object_header(stream)
        with TemporaryDirectory(prefix="cellworker-") as folder:
            look = _Look(stream, Spool(Path(folder)), limits, native)
            look.root()
        return look.result(stream.finish())
    finally:
        stream.close()


class _Look(ObjectReader):
    def root(self) -> None:
        self._class = self._package = ""
        self._frame: dict[str, RValue] | None = None
        self._reductions: list[str] | None = None
        self._assay = ""
        self._assays: list[AssaySurvey] = []
        for slot in self._slots():
            if slot == "assays":
                self._all_assays()
            elif slot == "meta.data":
                self._frame = self._list_attributes()
            elif slot == "reductions":
                self._reductions = _texts(self._list_attributes().get("names"))
            elif slot == "active.assay":
                self._assay = next(iter(_texts(self.read_item())), "")
            elif slot == "class":
                self._class, self._package = _class_of(self.read_item())
            else:
                self.skip(1)

    def result(self, sha256: str) -> SeuratSurvey:
        if self._class != "Seurat" or self._frame is None or self._reductions is None:
            what = f"an object of class {self._class}" if self._class else "something else"
            raise WorkerError(
                ErrorCode.EXPERIMENT_UNSUPPORTED,
                f"Only objects of Seurat 3 and later can be annotated, and the file holds {what}. In R, save "
                "Seurat::UpdateSeuratObject(object) with saveRDS(), and open that file.",
            )
        names, n_rows = row_names(self._frame.get("row.names"))
        return SeuratSurvey(
            package=self._package,
            columns=_texts(self._frame.get("names")),
            rows=names,
            n_rows=n_rows,
            reductions=self._reductions,
            assay=self._assay,
            assays=self._assays,
            sha256=sha256,
        )

    def _slots(self) -> Iterator[str]:
        """Yield the name of each slot of the next S4 object; the caller takes its value before the next name."""
        flags = self.flags()
        if flags & 0xFF == _S4 and flags & HAS_ATTRIBUTES:
            yield from self._tags()
        else:
            self.skip_opened(flags)

    def _tags(self) -> Iterator[str]:
        while (flags := self.flags()) & 0xFF == _PAIRLIST:
            if flags & HAS_ATTRIBUTES:
                self.skip(1)
            tag = self.read_item() if flags & HAS_TAG else None
            yield tag.name if isinstance(tag, RSymbol) else ""
        if flags & 0xFF != _END:
            raise damaged(self.stream.offset - 4, f"attributes end with the type {flags & 0xFF}")

    def _list_attributes(self, element: Callable[[int], None] | None = None) -> dict[str, RValue]:
        """Pass over a list and return its attributes; `element` takes one of its elements."""
        flags = self.flags()
        if flags & 0xFF != _LIST:
            self.skip_opened(flags)
            return {}
        for position in range(self.length(4, "a list")):
            if element is None:
                self.skip(1)
            else:
                element(position)
        return {tag: self.read_item() for tag in self._tags()} if flags & HAS_ATTRIBUTES else {}

    def _all_assays(self) -> None:
        layers: list[list[tuple[str, str]]] = []
        names = _texts(self._list_attributes(lambda _: layers.append(self._layers())).get("names"))
        self._assays = [AssaySurvey(name, found) for name, found in zip(names, layers, strict=False)]

    def _layers(self) -> list[tuple[str, str]]:
        packages: list[str] = []
        names: list[str] = []
        for slot in self._slots():
            if slot == "layers":
                found = self._list_attributes(lambda _: packages.append(self._package_of_next()))
                names = _texts(found.get("names"))
            else:
                self.skip(1)
        return list(zip(names, packages, strict=False))

    def _package_of_next(self) -> str:
        package = ""
        for slot in self._slots():
            if slot == "class":
                package = _class_of(self.read_item())[1]
            else:
                self.skip(1)
        return package


def _class_of(value: RValue) -> tuple[str, str]:
    package = value.attributes.get("package") if isinstance(value, RStrings) else None
    return next(iter(_texts(value)), ""), next(iter(_texts(package)), "")


def _texts(value: RValue | None) -> list[str]:
    return [text or "" for text in value.tolist()] if isinstance(value, RStrings) else []


def row_names(names: RValue | None) -> tuple[list[str] | None, int]:
    """Return a data frame's row names, None where they are numbers from 1, and how many rows there are."""
    if isinstance(names, RStrings):
        return _texts(names), len(names)
    if not isinstance(names, RVector):
        return None, 0
    if len(names) == 2 and names.values[0] == NA_INTEGER:
        # The count is negative where R made the numbers itself.
        return None, abs(int(names.values[1]))
    return [str(number) for number in names.values.tolist()], len(names)
