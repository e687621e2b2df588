"""The context of a task, made from the settings, for callers that compute in their own process."""

from pathlib import Path

from cellworker.engine.annotators.cassia import annotator
from cellworker.engine.annotators.marker_table import marker_table
from cellworker.settings import Settings
from cellworker.tasks.task import Context, Progress

__all__ = ["make_context"]


def make_context(
    settings: Settings, progress: Progress, scratch: Path, kept: Path | None = None, *, own_tables: bool = False
) -> Context:
    """Return a task's context.

    Parameters
    ----------
    settings
        Threads, the switch `like_original`, where marker tables and language models are.
    progress
        Called with the progress of the task.
    scratch
        A folder for files that are results.
    kept
        A folder for files that later requests may reuse.
    own_tables
        Whether the caller makes tables of the result.
    """
    return Context(
        progress=progress,
        scratch=scratch,
        threads=settings.threads,
        like_original=settings.like_original,
        marker_table=marker_table(settings),
        annotate=annotator(settings),
        kept=kept,
        own_tables=own_tables,
    )
