"""Parameters of `cellworker prepare`, from flags or one YAML file, which it also writes."""

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install
from cellworker.protocol.validation import Count, Positive, told

__all__ = [
    "FILE_NAME",
    "Parameters",
    "SampleInput",
    "Thresholds",
    "read_parameters",
    "recorded",
    "resolved",
    "set_threshold",
    "to_yaml",
]

FILE_NAME = "prepare.yaml"
_ENDINGS = re.compile(
    r"(?:\.(?:gz|bz2|xz|zst|zip|h5ad|rds|rda|rdata|qs2?|h5|hdf5|h5seurat|h5mu|loom|zarr|mtx|csv|tsv|txt|tab|st))+$",
    re.IGNORECASE,
)
_MAX_BYTES = 1 << 20
_NO_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that YAML allows in no text, or reads as the end of a line."""
_MAX_MADS = 1e6
_Limit = Annotated[float, Meta(ge=0, le=1e15)]
"""Far above any real count or resolution."""


class Thresholds(Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """Limits of quality measures, inclusive; None is suggested from the cells' median and MAD.

    Attributes
    ----------
    min_counts, max_counts
        Of a cell's counts. None: 3 MADs below the median, on a logarithmic scale; no upper limit.
    min_genes, max_genes
        Of a cell's genes with counts; as for counts.
    max_mt
        Percentage of mitochondrial counts. None: 3 MADs above the median.
    max_doublet_score
        None: the score that divides cells from simulated doublets.
    """

    min_counts: _Limit | None = None
    max_counts: _Limit | None = None
    min_genes: _Limit | None = None
    max_genes: _Limit | None = None
    max_mt: Annotated[float, Meta(ge=0, le=100)] | None = None
    max_doublet_score: Annotated[float, Meta(ge=0, le=1)] | None = None

    def over(self, general: "Thresholds") -> "Thresholds":
        """Return these limits, and those of `general` where these are None."""
        own = {name: getattr(self, name) for name in self.__struct_fields__}
        return Thresholds(**{name: getattr(general, name) if own[name] is None else own[name] for name in own})


class SampleInput(Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """One input: a path, the sample's name (by default the file's or the folder's), limits of its own."""

    path: str
    name: str = ""
    thresholds: Thresholds = field(default_factory=Thresholds)


class Parameters(Struct, forbid_unknown_fields=True, frozen=True):
    """Everything that determines the result.

    Attributes
    ----------
    samples
        The inputs.
    thresholds
        Limits for all samples.
    mads
        Distance of suggested limits from the median, in MADs.
    empty_droplets
        Whether barcodes without cells are looked for; "auto" where a matrix is unfiltered.
    empty_fdr, empty_lower
        False discovery rate of cells; counts up to which a barcode is taken as empty.
    remove_doublets
        Whether cells above the doublet score's limit are left out. Scores are kept either way.
    min_cells
        Genes that fewer of the kept cells have are left out.
    variable_genes, components
        Number of scaled genes, and of components.
    dimensions
        Leading components that integration, clusters and map use.
    integration
        "auto" integrates where samples separate: with Harmony, or with MNN where they separate still.
    separation
        Samples separate where the measure is above this: 0 when well mixed, 1 when all neighbours share the sample.
    clustering, resolution
        The method, and how finely.
    rds
        Whether a Seurat object is written too.
    """

    samples: list[SampleInput]
    thresholds: Thresholds = field(default_factory=Thresholds)
    mads: Annotated[float, Meta(gt=0, le=_MAX_MADS)] = 3.0
    empty_droplets: Literal["auto", "yes", "no"] = "auto"
    empty_fdr: Annotated[float, Meta(gt=0, le=1)] = 0.01
    empty_lower: Positive = 100
    remove_doublets: bool = True
    min_cells: Count = 3
    variable_genes: Annotated[int, Meta(ge=2, le=100_000)] = 2000
    components: Annotated[int, Meta(ge=2, le=500)] = 50
    dimensions: Annotated[int, Meta(ge=2, le=500)] = 30
    integration: Literal["auto", "none", "harmony", "mnn"] = "auto"
    separation: Annotated[float, Meta(ge=0, le=1)] = 0.3
    clustering: Literal["louvain", "leiden"] = "louvain"
    resolution: _Limit = 0.8
    rds: bool = False


def read_parameters(path: Path | None, flags: dict[str, Any]) -> Parameters:
    """Join a YAML file and flags; flags win.

    Parameters
    ----------
    path
        The file; None without one.
    flags
        By the names of `Parameters`; None means not given. ``set``: texts ``[SAMPLE:]LIMIT=NUMBER``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field.
    """
    values: dict[str, Any] = _loaded(path) if path is not None else {}
    assignments = flags.pop("set", None) or []
    values |= {name: value for name, value in flags.items() if value is not None}
    for text in assignments:
        set_threshold(values, text)
    found = _checked(values, path)
    if not found.samples:
        raise _invalid("no samples: name files or folders, or list them under 'samples' in a file for --config")
    _check_limits(found)
    if any(not _may_be_path(sample.path) for sample in found.samples):
        raise _invalid("samples: a path is empty or has the character NUL in it; name files or folders")
    return found


def _check_limits(found: Parameters) -> None:
    """Refuse a min limit above its max."""
    for sample in found.samples:
        limits = sample.thresholds.over(found.thresholds)
        for measure, low, high in (
            ("counts", limits.min_counts, limits.max_counts),
            ("genes", limits.min_genes, limits.max_genes),
        ):
            if low is not None and high is not None and low > high:
                name = sample.name or plain_name(sample.path)
                message = f"{name}: min_{measure} {low:g} is above max_{measure} {high:g}: no cell lies between them"
                raise _invalid(message)


def _checked(values: dict[str, Any], path: Path | None) -> Parameters:
    """Numbers may be written as text: to YAML 1.1, ``1e-7`` is one."""
    try:
        return msgspec.convert(values, Parameters, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        where = path.name if path is not None else "prepare"
        why = "it is too deeply nested."
        if isinstance(error, msgspec.ValidationError):
            why = told(str(error), "", Parameters).lstrip(".")
        raise _invalid(message=f"{where}: {why[:-1]}; 'cellworker prepare --help' lists what there is") from None


def _may_be_path(text: str) -> bool:
    return bool(text) and "\0" not in text


def _loaded(path: Path) -> dict[str, Any]:
    try:
        import yaml  # noqa: PLC0415 - of the extra
    except ImportError:
        message = f"{path.name} is read with PyYAML: {how_to_install('prepare')}"
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise _invalid(message=f"{path.name}: is larger than 1 MiB; expected parameters of 'cellworker prepare'")
        found = yaml.safe_load(content.decode("utf-8"))
    except OSError as error:
        raise _invalid(message=f"{path} cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError) as error:  # an impossible date, too many digits
        raise _invalid(message=f"{path.name} is no YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise _invalid(message=f"{path.name}: is too deeply nested") from None
    if not isinstance(found, dict):
        raise _invalid(message=f"{path.name}: expected names and values, as in the {FILE_NAME} of a finished run")
    # From here on the shape is checked: flags and paths are filled in.
    shaped = _checked({"samples": [], **found} if all(isinstance(name, str) for name in found) else found, path)
    values: dict[str, Any] = msgspec.to_builtins(shaped)
    for item in values["samples"]:
        # Paths in a file are relative to its folder.
        item["path"] = str(path.parent / item["path"]) if _may_be_path(item["path"]) else item["path"]
    return values


def recorded(parameters: Parameters) -> dict[str, Any]:
    """Return the parameters to record in a file: samples by the names of their files, without folders."""
    values: dict[str, Any] = msgspec.to_builtins(parameters)
    for item in values["samples"]:
        item["path"] = Path(item["path"]).name
    return values


def resolved(values: dict[str, Any], folder: Path) -> Parameters:
    """Return the parameters that a file records, with its samples' files found beside its folder, in it, or here.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for malformed parameters, and for samples that are missing.
    """
    shaped = _checked(values, None)
    samples = []
    for item in shaped.samples:
        name = Path(item.path).name  # never a path: the file is untrusted
        found = [place / name for place in (folder.parent, folder, Path()) if name and (place / name).exists()]
        if not found:
            message = f"the sample {name!r} is not beside {folder.resolve().name}: use --config {FILE_NAME}"
            raise _invalid(message)
        samples.append(msgspec.structs.replace(item, path=str(found[0])))
    return msgspec.structs.replace(shaped, samples=samples)


def set_threshold(values: dict[str, Any], text: str) -> None:
    """Add one assignment of ``--set`` to the values.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT``.
    """
    names = ", ".join(Thresholds.__struct_fields__)
    left, equals, right = text.partition("=")
    sample, _, limit = left.rpartition(":")
    try:
        number: float | None = None if right == "none" else float(right)
    except ValueError:
        equals, number = "", None
    if number is not None and not math.isfinite(number):
        raise _invalid(message=f"--set {text}: expected a finite number; {limit}=none suggests the limit anew")
    if not equals or limit not in Thresholds.__struct_fields__:
        raise _invalid(message=f"--set {text}: expected [SAMPLE:]LIMIT=NUMBER, where LIMIT is one of {names}")
    if not sample:
        values["thresholds"] = {**(values.get("thresholds") or {}), limit: number}
        return
    found = [item for item in values.get("samples", []) if (item.get("name") or plain_name(item["path"])) == sample]
    if not found:
        raise _invalid(message=f"--set {text}: there is no sample {sample!r}")
    for item in found:
        item["thresholds"] = {**(item.get("thresholds") or {}), limit: number}


def plain_name(path: str) -> str:
    """Return the default name of a sample: the file's without its endings, or the folder's."""
    found = Path(path)
    name = found.name or found.resolve().name
    if name == "outs" or name.startswith(("filtered_feature_bc_matrix", "raw_feature_bc_matrix")):
        return plain_name(str(found.resolve().parent))
    if found.is_dir() and found.suffix != ".zarr":
        return name
    return _ENDINGS.sub("", name) or name


def to_yaml(parameters: Parameters) -> str:
    """Return a document that `read_parameters` reads; values are JSON, which is YAML except for a few characters."""
    lines = [f"# cellworker prepare --config {FILE_NAME} --out FOLDER does the same again."]
    for name, value in msgspec.to_builtins(parameters).items():
        if name == "samples":
            lines.append("samples:")
            lines += [f"  - {_json(item)}" for item in value]
        else:
            lines.append(f"{name}: {_json(value)}")
    return "\n".join(lines) + "\n"


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _NO_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _invalid(message: str) -> WorkerError:
    return WorkerError(ErrorCode.INVALID_INPUT, message)
