"""Sentences of refusals, for the person who made the file."""

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["damaged", "not_rds", "refused", "truncated"]

_AGAIN = "Copy it here again, or save the object again in R with saveRDS() or qs::qsave()."


def refused(sentence: str) -> WorkerError:
    """Return the error for a file that is not read, for a reason given as a sentence."""
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, sentence)


def damaged(at: int, what: str) -> WorkerError:
    """Return the error for bytes that no R writes; `at` counts decompressed bytes."""
    return refused(f"The file is damaged or incomplete: {what} (at byte {at:,} of its decompressed content). {_AGAIN}")


def truncated(at: int) -> WorkerError:
    """Return the error for a file that ends in the middle of the object."""
    return refused(
        f"The file is truncated: it ends after {at:,} decompressed bytes, in the middle of the object. "
        f"It was not copied or not saved to its end. {_AGAIN}"
    )


def not_rds(what: str) -> WorkerError:
    """Return the error for a file of another kind."""
    return refused(
        f"The file is not an .rds file that can be read: {what}. In R, save the object with saveRDS(object, 'r.rds')."
    )
