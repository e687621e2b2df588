"""Errors: codes that clients match on, sentences that people read."""

import pickle

import pytest

from cellworker.errors import ErrorCode, WorkerError

ORIGINAL = {
    "R_WORKER_GENE_NOT_FOUND",
    "R_WORKER_EMPTY_CELL_SET",
    "R_WORKER_COLUMN_NOT_FOUND",
    "R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES",
    "R_WORKER_NO_GENE_SYMBOLS",
    "R_WORKER_CASSIA_ERROR",
    "R_WORKER_UNHANDLED_ERROR",
    "PYTHON_WORKER_ERROR",
    "INVALID_INPUT",
}


def test_the_codes_that_the_ui_knows_are_there_letter_for_letter() -> None:
    assert {code.value for code in ErrorCode} >= ORIGINAL


def test_a_code_is_its_own_name() -> None:
    assert all(code.value == code.name for code in ErrorCode)


def test_a_code_is_plain_text_on_the_wire() -> None:
    import json

    assert json.dumps({"errorCode": ErrorCode.INVALID_INPUT}) == '{"errorCode": "INVALID_INPUT"}'


def test_an_error_reads_as_code_and_sentence() -> None:
    error = WorkerError(ErrorCode.INVALID_INPUT, "body.genes: expected a list")
    assert str(error) == "INVALID_INPUT: body.genes: expected a list"


def test_an_error_is_unchanged_after_crossing_processes() -> None:
    error = pickle.loads(pickle.dumps(WorkerError(ErrorCode.OUT_OF_MEMORY, "too large")))
    assert (error.code, error.message) == (ErrorCode.OUT_OF_MEMORY, "too large")


@pytest.mark.shared
def test_every_error_code_of_the_contract_is_known(shared) -> None:
    import re

    section = (shared / "contract.md").read_text().split("### 4.5 Error codes")[1].split("\n## ")[0]
    named = set(re.findall(r"`(R_WORKER_[A-Z_]+|PYTHON_WORKER_ERROR|INVALID_INPUT)`", section))
    named.discard("R_WORKER_NO_MARKER_GENES")  # never raised
    named.discard("R_WORKER_SCTYPE_ERROR")  # only ever inside the text of another
    assert len(named) > 5
    assert named <= {code.value for code in ErrorCode}
