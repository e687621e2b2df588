"""`cellworker prepare`."""

import argparse
from pathlib import Path

from cellworker.cli.numbers import text_of
from cellworker.cli.progress import Bar
from cellworker.cli.settings_of import settings_of
from cellworker.errors import ErrorCode, WorkerError
from cellworker.plain_text import say
from cellworker.preparing.parameters import read_parameters
from cellworker.preparing.pipeline import Prepared, run

__all__ = ["FLAGS", "command", "sample_of", "tell"]

FLAGS = (
    "mads", "empty_droplets", "min_cells", "variable_genes", "components", "dimensions", "integration", "separation",
    "clustering", "resolution",
)  # fmt: skip
"""Options that are parameters of the same name."""


def command(options: argparse.Namespace) -> int:
    """Prepare an experiment and print the outcome of each sample."""
    flags = {name: getattr(options, name) for name in FLAGS}
    flags |= {
        "samples": [sample_of(text) for text in options.samples] or None,
        "remove_doublets": False if options.keep_doublets else None,
        "rds": True if options.rds else None,
        "set": options.set,
    }
    parameters = read_parameters(Path(options.config) if options.config else None, flags)
    with Bar(quiet=options.quiet) as bar:
        made = run(parameters, Path(options.out), settings_of(options), bar, force=options.force)
    tell(made)
    return 0


def sample_of(text: str) -> dict[str, str]:
    """Return a sample from ``PATH`` or ``NAME=PATH``; an existing path is one, even with "=" in its name."""
    name, equals, path = text.partition("=")
    if equals and not Path(text).exists():
        try:
            return {"path": path, "name": text_of(name)}
        except argparse.ArgumentTypeError as error:
            raise WorkerError(ErrorCode.INVALID_INPUT, f"{text}: {error}") from None
    return {"path": text}


def tell(made: Prepared) -> None:
    """Print the files that were made, and the next step."""
    for name, steps in made.kept.items():
        told = ", ".join(
            f"{number:,} {'' if i == 0 else 'after '}{step}" for i, (step, number) in enumerate(steps.items())
        )
        say(f"{name}: {told}")
    say(made.integration)
    say(f"{made.n_cells:,} cells, {made.n_genes:,} genes, {made.n_clusters} clusters in {made.folder}")
    say(f"report: {made.report}")
    say(f"look at it: cellworker run {made.folder}")
