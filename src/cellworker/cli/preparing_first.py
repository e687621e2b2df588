"""`cellworker run --prepare`: prepares raw counts once, and serves the outcome."""

from pathlib import Path

from cellworker.cli.progress import Bar
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.opening.own_work import may_write
from cellworker.plain_text import say
from cellworker.preparing.parameters import Parameters, SampleInput, plain_name
from cellworker.preparing.pipeline import EXPERIMENT, run
from cellworker.settings import Settings

__all__ = ["prepared"]


def prepared(wanted: str | None, settings: Settings) -> Path:
    """Return the folder of the experiment that is prepared from a file or folder, now or in an earlier run.

    It is ``<name>-prepared`` beside the given path; where that cannot be written to, under ``DATA_DIR``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when no file or folder is given; what preparing raises.
    """
    source = Path(wanted).expanduser() if wanted else None
    if source is None or not source.exists():
        message = f"--prepare: expected a file or folder of raw counts, found {wanted or 'none'}; name one that exists"
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    source = source.resolve()
    name = f"{plain_name(str(source))}-prepared"
    out = source.with_name(name)
    if not may_write(out):
        out = settings.data_dir / name
    if (out / EXPERIMENT).exists():
        say(f"prepared before: {out} (remove that folder to prepare again)")
        return out
    with Bar() as bar:
        made = run(Parameters(samples=[SampleInput(path=str(source))]), out, settings, bar)
    say(f"prepared: {made.n_cells:,} cells, {made.n_clusters} clusters; report: {made.report}")
    return out
