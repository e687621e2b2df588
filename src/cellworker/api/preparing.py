"""From raw counts of samples to an experiment, in one call."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellworker.preparing.parameters import read_parameters
from cellworker.preparing.pipeline import Prepared, run
from cellworker.progress import Progress, silent
from cellworker.settings import Settings

__all__ = ["Prepared", "prepare"]


def prepare(
    samples: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]] = (),
    *,
    out: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    thresholds: Sequence[str] = (),
    force: bool = False,
    settings: Settings | None = None,
    on_progress: Progress | None = None,
    **parameters: Any,  # noqa: ANN401
) -> Prepared:
    """Prepare an experiment: what ``cellworker prepare`` does.

    Parameters
    ----------
    samples
        Paths of raw counts, or names and paths.
    out
        The folder to write.
    config
        A YAML file, such as the ``prepare.yaml`` of an earlier run.
    thresholds
        Limits of quality measures, as for ``--set``: ``"max_mt=10"``, ``"tumour:min_genes=500"``.
    force
        Whether a finished experiment in `out` may be replaced.
    settings
        Where stores are, and threads; None reads the environment.
    on_progress
        Called with the stage and the fraction done; may raise to stop. The next call goes on from there.
    parameters
        Fields of `cellworker.preparing.parameters.Parameters`: ``integration="harmony"``, ``resolution=1.2``, ...

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` with everything that is wrong with the samples, each with what to do.

    Examples
    --------
    >>> made = cellworker.prepare({"a": "a.h5ad", "b": "b.h5ad"}, out="both")  # doctest: +SKIP
    >>> cellworker.open_experiment(made.folder)  # doctest: +SKIP
    """
    if isinstance(samples, Mapping):
        listed = [{"path": os.fspath(path), "name": name} for name, path in samples.items()]
    elif isinstance(samples, str | os.PathLike):
        listed = [{"path": os.fspath(samples)}]
    else:
        listed = [{"path": os.fspath(path)} for path in samples]
    flags = {**parameters, "samples": listed or None, "set": list(thresholds)}
    found = read_parameters(Path(config) if config is not None else None, flags)
    return run(found, Path(out), settings or Settings.from_environment(), on_progress or silent, force=force)
