"""The column that tells samples apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical
from cellworker.formats.common.cells.samples import add_samples, choose_sample
from cellworker.formats.common.findings import Findings

N = 60
LIBRARY = np.repeat([0, 1, 2], 20)
CELLS = np.random.default_rng(1)
BARCODES = ["".join(CELLS.choice(list("ACGT"), 16)) + f"-{library + 1}" for library in LIBRARY]
PLAIN = [name.split("-")[0] + "-1" for name in BARCODES]


def labels(codes) -> Categorical:
    values, places = np.unique(np.asarray(codes), return_inverse=True)
    return Categorical(places.astype(np.int32), [f"S{value}" for value in values])


STEADY, MIXED, ONE = labels(LIBRARY), labels(np.arange(N) % 2), labels(np.zeros(N))


@pytest.mark.parametrize(
    ("columns", "barcodes", "wanted"),
    [
        ({"orig.ident": STEADY, "sample": STEADY}, BARCODES, "sample"),
        ({"orig.ident": STEADY, "donor_id": STEADY}, PLAIN, "donor_id"),
        ({"orig.ident": STEADY, "mouse.id": STEADY}, PLAIN, "mouse.id"),
        ({"batch": STEADY, "orig.ident": ONE}, PLAIN, "batch"),
        ({"sample": ONE, "patient": STEADY}, PLAIN, "patient"),
        ({"sample": MIXED, "orig.ident": STEADY}, BARCODES, "orig.ident"),
        ({"sample": MIXED, "orig.ident": STEADY}, PLAIN, "sample"),
        ({"sample": MIXED}, BARCODES, "sample"),
        ({"samples": STEADY, "sample_id": STEADY}, BARCODES, "sample_id"),
        ({"Donor ID": STEADY}, PLAIN, "Donor ID"),
        ({"sample": np.repeat([1, 2, 3], 20)}, PLAIN, "sample"),
        ({"sample": np.repeat([1.5, 2, 3], 20), "donor": STEADY}, PLAIN, "donor"),
        ({"sample": labels(np.arange(N)), "donor": STEADY}, PLAIN, "donor"),
        ({"orig.ident": ONE}, PLAIN, "orig.ident"),
        ({"condition": STEADY}, PLAIN, None),
    ],
)
def test_the_column_of_samples(columns, barcodes, wanted):
    chosen = choose_sample(columns, barcodes)
    assert chosen.column == wanted
    assert set(chosen.rejected) <= columns.keys() - {wanted}


@pytest.mark.parametrize("shape", ["{core}-{library}", "L{library}_{core}-1", "{core}_{library}", "{core}-1-{library}"])
def test_libraries_are_recognised_by_the_text_around_the_bases(shape):
    cores = [name.split("-")[0] for name in BARCODES]
    barcodes = [shape.format(core=core, library=library) for core, library in zip(cores, LIBRARY, strict=True)]
    assert choose_sample({"sample": MIXED, "donor": STEADY}, barcodes).column == "donor"


def test_the_user_names_any_column_of_labels():
    columns = {"sample": STEADY, "treatment": MIXED, "score": np.linspace(0, 1, N)}
    assert choose_sample(columns, BARCODES, "treatment").column == "treatment"
    for wanted in ("nothing", "score"):
        with pytest.raises(WorkerError, match=r"columns that can tell samples apart: sample, treatment\.") as caught:
            choose_sample(columns, BARCODES, wanted)
        assert caught.value.code is ErrorCode.INVALID_INPUT
        assert wanted in caught.value.message


def test_the_column_of_the_platform_is_taken_as_it_is():
    assert choose_sample({"sample": STEADY, "samples": ONE}, BARCODES, own="samples").column == "samples"


def test_a_file_keeps_its_own_column_samples():
    columns, findings = {"samples": MIXED, "sample": STEADY}, Findings()
    assert add_samples(columns, BARCODES, findings, table="obs")[0] == "sample"
    assert columns == {"samples": MIXED, "sample": STEADY}
    assert "samples come from the column sample" in findings.problems[0].advice


names = st.sampled_from(["sample", "Sample_ID", "samples", "donor", "patient", "orig.ident", "batch", "leiden", "x"])
columns_of_labels = st.lists(st.integers(-1, 3), min_size=N, max_size=N).map(
    lambda codes: Categorical(np.array(codes, np.int32), list("abcd"))
)


@given(columns=st.dictionaries(names, columns_of_labels), barcodes=st.sampled_from([BARCODES, PLAIN]))
def test_a_choice_has_several_values_where_any_column_has(columns, barcodes):
    chosen = choose_sample(columns, barcodes)
    able = [
        name for name, column in columns.items()
        if name not in {"leiden", "x"} and len(np.unique(column.codes[column.codes >= 0])) > 1
    ]  # fmt: skip
    if able:
        assert chosen.column in able
        assert chosen == choose_sample(dict(reversed(columns.items())), barcodes)
