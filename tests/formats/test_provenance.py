"""What made a file is in the file, whatever its format, and comes out again as it went in."""

import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.cli.main import main
from cellworker.errors import WorkerError
from cellworker.formats.common.provenance import Provenance, decode, encode, read_provenance, side_file, stamp

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
RECORD = Provenance.of("markers", {"by": "µ & <b>-->\n", "seed": 7}, source=Path("/home/me/x.h5ad"), sha256="ab" * 32)


def picture(path: Path) -> None:
    """Write the smallest picture of a format."""
    if path.suffix == ".svg":
        path.write_text('<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="1">\n<g/></svg>\n')
        return
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    Figure(figsize=(1, 1)).savefig(path)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_parameters_come_out_as_they_went_in(parameters) -> None:
    text = encode([Provenance.of("task", parameters)])
    assert text.isascii()
    assert decode(text)[0].parameters == parameters


def test_a_record_names_version_seed_and_hash_but_no_folder() -> None:
    record = decode(encode([RECORD]))[0]
    assert (record.source, record.source_sha256, record.seed) == ("x.h5ad", "ab" * 32, 7)
    assert record.cellworker
    assert "/home/me" not in encode([RECORD])


@pytest.mark.parametrize("name", ["p.png", "p.svg"])
def test_pictures_stay_pictures(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    picture(file)
    stamp(file, [RECORD])
    assert read_provenance(file) == [RECORD]
    if file.suffix == ".svg":
        from xml.etree import ElementTree as ET

        assert len(ET.parse(file).getroot()) == 2
    else:
        from matplotlib.image import imread

        assert imread(file).ndim == 3


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def test_experiments_stay_experiments(tmp_path: Path, name: str) -> None:
    file, adata = tmp_path / name, anndata.AnnData(np.ones((2, 3), np.float32))
    adata.write_h5ad(file) if name.endswith("h5ad") else adata.write_zarr(file)
    stamp(file, [RECORD])
    assert read_provenance(file) == [RECORD]
    assert (anndata.read_h5ad(file) if name.endswith("h5ad") else anndata.read_zarr(file)).shape == (2, 3)


def test_a_format_without_metadata_gets_a_second_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    stamp(tmp_path / "a.csv", [RECORD])
    assert (tmp_path / "a.csv").read_text() == "a\n1\n"
    assert read_provenance(tmp_path / "a.csv") == read_provenance(side_file(tmp_path / "a.csv")) == [RECORD]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"a\n1\n", "holds no record"),
        ("a.json", b'{"cellworker": 3}', "holds no record"),
        ("a.json", b'{"cellworker": [{"task": 3}]}', "cannot be read"),
        ("a.json", b"{", "cannot be read"),
        ("a.json", b'{"cellworker": []}', "nothing made it"),
        ("a.png", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xff", "holds no record"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "holds no record"),
        ("a.h5ad", b"\x89HDF\r\n\x1a\n broken", "cannot be read"),
        ("a.parquet", b"PAR1 broken", "cannot be read"),
        ("a.svg", b'<svg><metadata id="cellworker">{</metadata></svg>', "cannot be read"),
        ("a.svg", b"\xff\xfe", "cannot be read"),
    ],
)
def test_files_without_valid_provenance_are_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WorkerError, match=says):
        read_provenance(tmp_path / name)


# ---- replay


def run(*arguments: str | Path, capsys) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return status, printed.out, printed.err


@pytest.mark.parametrize(
    "command",
    [
        ("markers", "{sample}", "--n", "2", "--out", "m.parquet"),
        ("markers", "{sample}", "--n", "2", "--out", "m.json"),
        ("markers", "{sample}", "--n", "2", "--out", "m.csv", "--provenance"),
        ("expression", "{sample}", "LYZ", "CD3E", "--out", "e.h5ad"),
        ("call", "ListGenes", "--experiment", "{sample}", "--body", '{"limit": 4}', "--out", "g.parquet"),
        ("call", "ListGenes", "--experiment", "{sample}", "--body", '{"limit": 4}', "--out", "g.json", "--provenance"),
        ("call", "GetNormalizedExpression", "--experiment", "{sample}", "--out", "n.csv", "--provenance"),
    ],
)
def test_a_result_is_asked_again_and_is_the_same(sample: Path, tmp_path: Path, monkeypatch, command, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*(word.replace("{sample}", str(sample)) for word in command), capsys=capsys)[0] == 0
    out = next(Path(word) for word in command if word[1:2] == ".")
    again = Path(f"again{out.suffix}")
    status, _, err = run("replay", out, "--experiment", sample, "--out", again, capsys=capsys)
    assert (status, err) == (0, "")
    if out.suffix == ".h5ad":
        first, second = anndata.read_h5ad(out), anndata.read_h5ad(again)
        assert first.obsm["expression"].equals(second.obsm["expression"])
        assert first.uns["cellworker"]["provenance"] == second.uns["cellworker"]["provenance"]
        with h5py.File(again) as file:
            assert decode(file.attrs["cellworker"])[0].parameters == {"genes": ["LYZ", "CD3E"]}
    else:
        assert out.read_bytes() == again.read_bytes()


def test_the_source_is_looked_for_beside_the_result_and_must_have_its_hash(
    sample: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "m.json"
    source = tmp_path / "mine.rds"
    source.write_bytes((sample / "r.rds").read_bytes())
    assert run("expression", source, "LYZ", "--out", out, capsys=capsys)[0] == 0
    status, text, _ = run("replay", out, "--format", "json", capsys=capsys)
    assert (status, json.loads(text)) == (0, json.loads(out.read_text()))
    other = json.loads(out.read_text())
    other["cellworker"][0]["source_sha256"] = "0" * 64
    out.write_text(json.dumps(other))
    status, _, err = run("replay", out, capsys=capsys)
    assert status == 1
    assert "is not what it was" in err
    status, _, err = run("replay", out, "--experiment", source, capsys=capsys)
    assert status == 0
    assert err.startswith("Note: ")
    source.unlink()
    assert "give --experiment PATH" in run("replay", out, capsys=capsys)[2]


@pytest.mark.parametrize(
    ("task", "parameters", "says"),
    [
        ("save", {"path": "/tmp/x"}, "no argument 'path'"),
        ("pl.embedding", {"ax": "x"}, "no argument 'ax'"),
        ("pl.embedding", {"dpi": "x"}, "expected a number"),
        ("pl.save", {"path": "/tmp/x"}, "cannot ask again"),
        ("convert", {"rds_class": "x"}, "rds_class is none of"),
        ("__class__", {}, "cannot ask again"),
        ("markers", {"path": "/tmp/x"}, "no argument 'path'"),
        ("expression", {}, "needs the argument 'genes'"),
        ("download", {"path": "/tmp/x"}, "no argument 'path'"),
    ],
)
def test_a_record_asks_for_commands_alone(sample: Path, tmp_path: Path, task, parameters, says, capsys) -> None:
    record = Provenance.of(task, parameters, source=sample)
    (tmp_path / "a.json").write_text(encode([record]))
    words = ["--experiment", sample, "--out", tmp_path / "out.png"]
    words += [] if task.startswith("pl.") else ["--format", "json"]
    status, _, err = run("replay", tmp_path / "a.json", *words, capsys=capsys)
    assert status == 1
    assert says in err
