"""Problems and gaps that a reader finds in an experiment: all at once, each with what to do."""

from collections.abc import Container
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["Findings", "PartBrokenError", "Problem", "RefusedError", "Severity"]

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an experiment, or missing from it.

    Attributes
    ----------
    field
        Where: a slot, a column, a key.
    found, expected
        The actual and the expected content.
    advice
        What to do about it, or its stand-in.
    severity
        "error": the experiment cannot be served. "warning": some request will be refused or may mislead. "note": a
        stand-in is used, nothing is lost.
    code
        The wire code that opening the experiment fails with; meaningful for errors.
    """

    field: str
    found: str
    expected: str
    advice: str
    severity: Severity
    code: ErrorCode = ErrorCode.EXPERIMENT_UNREADABLE

    @property
    def sentence(self) -> str:
        """The whole problem in one sentence."""
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.field}: found {self.found}{expected}; {self.advice}"

    def to_json(self) -> dict[str, str]:
        """Return the problem as plain text fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Problem":
        """Rebuild what `to_json` returned."""
        return cls(**{**value, "code": ErrorCode(value["code"])})


class RefusedError(WorkerError):
    """An object that was read but cannot be served; `problems` holds everything found, not the first error alone."""

    def __init__(self, code: ErrorCode, message: str, problems: list[Problem]) -> None:
        super().__init__(code, message)
        self.problems = problems


class PartBrokenError(Exception):
    """A part of the object cannot be read further; the finding is already recorded."""


class _Part:
    def __enter__(self) -> None:
        """Begin the part."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Swallow the part's own way of breaking, nothing else."""
        return isinstance(error, PartBrokenError)


class Findings:
    """Collects problems while an object is read, so that a user sees every one after one attempt."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    @property
    def errors(self) -> list[Problem]:
        """The problems that keep the experiment from being served."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def fallbacks(self) -> list[str]:
        """One sentence for each stand-in."""
        return [f"{p.field}: {p.found}; {p.advice}." for p in self.problems if p.severity == "note"]

    def error(
        self, field: str, *, found: str, expected: str, advice: str, code: ErrorCode = ErrorCode.EXPERIMENT_UNREADABLE
    ) -> None:
        """Record an error, which keeps the experiment from being served, and continue reading."""
        self.problems.append(Problem(field, found, expected, advice, "error", code))

    def broken(
        self, field: str, *, found: str, expected: str, advice: str, code: ErrorCode = ErrorCode.EXPERIMENT_UNREADABLE
    ) -> PartBrokenError:
        """Record an error after which the current part cannot be read on; the caller raises what is returned."""
        self.error(field, found=found, expected=expected, advice=advice, code=code)
        return PartBrokenError(field)

    def warning(self, field: str, *, found: str, expected: str, advice: str) -> None:
        """Record a warning: some request will fail or may mislead."""
        self.problems.append(Problem(field, found, expected, advice, "warning"))

    def fallback(self, field: str, *, found: str, advice: str, expected: str = "") -> None:
        """Record a gap and its stand-in."""
        self.problems.append(Problem(field, found, expected, advice, "note"))

    def withdraw(self, severity: Severity, fields: Container[str], advice: str = "") -> None:
        """Withdraw findings on these fields (with an advice that ends so): the missing part has been made."""
        self.problems = [
            p for p in self.problems if p.severity != severity or p.field not in fields or not p.advice.endswith(advice)
        ]

    def part(self) -> "_Part":
        """Read one part: if it is broken, continue after the ``with`` block."""
        return _Part()

    def raise_errors(self) -> None:
        """Raise the first error, naming how many more there are.

        Raises
        ------
        RefusedError
            With the first error's code, when there is any error.
        """
        errors = self.errors
        if not errors:
            return
        more = len(errors) - 1
        tail = f" ({more} more: 'cellworker check' lists all)" if more else ""
        raise RefusedError(errors[0].code, errors[0].sentence + tail, self.problems)
