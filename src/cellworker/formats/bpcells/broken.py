"""Refusals of BPCells matrices: the parts are made here, `layer` adds the layer's name."""

from cellworker.errors import ErrorCode

__all__ = ["MatrixError", "damaged"]

_AGAIN = "copy the matrix folder here again, or write it again with write_matrix_dir()"


class MatrixError(Exception):
    """The actual content, the expected content, and what to do; see `Problem`."""

    def __init__(
        self, *, found: str, expected: str, advice: str, code: ErrorCode = ErrorCode.EXPERIMENT_UNREADABLE
    ) -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.advice = advice
        self.code = code


def damaged(found: str, expected: str) -> MatrixError:
    """Return the error for files that contradict themselves."""
    return MatrixError(found=found, expected=expected, advice=_AGAIN)
