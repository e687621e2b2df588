"""Tables of marker genes: what is read, corrected and refused."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.marker_table import approved_symbols, read_marker_table

HEADER = ["tissueType", "cellName", "geneSymbolmore1", "geneSymbolmore2", "shortName"]


def workbook(rows: list[list[str]], sheet: str | None = None) -> bytes:
    """A workbook as spreadsheet programs write it: most texts shared, some in their cells, empty cells left out."""
    texts: list[str] = []
    lines = []
    for number, row in enumerate(rows, 1):
        cells = ""
        for column, text in zip("ABCDE", row, strict=False):
            if text == "-":
                cells += f'<c r="{column}{number}" t="inlineStr"><is><t>CD79A</t></is></c>'
            elif text:
                cells += f'<c r="{column}{number}" t="s"><v>{len(texts)}</v></c>'
                texts.append(text)
        lines.append(f'<row r="{number}">{cells}</row>')
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    shared = "".join(f"<si><r><t>{text[:2]}</t></r><r><t>{text[2:]}</t></r></si>" for text in texts)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst {space}>{shared}</sst>")
        content = sheet or f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        archive.writestr("xl/worksheets/sheet1.xml", content)
    return file.getvalue()


def test_a_workbook_is_read_in_its_order() -> None:
    rows = [
        HEADER,
        ["Skin", "B", "Cd19, MS4A1,cd19", "CD3E", "b"],
        ["Bone", "X", "-"],
        ["Skin", "A", "NKG7", "", ""],
        [],
    ]
    table = read_marker_table(workbook(rows))
    assert list(table) == ["Skin", "Bone"]
    assert [(x.name, x.positive, x.negative) for x in table["Skin"]] == [
        ("B", ("CD19", "MS4A1"), ("CD3E",)), ("A", ("NKG7",), ()),
    ]  # fmt: skip
    assert table["Bone"][0].positive == ("CD79A",)


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("", ()),
        ("NA,", ()),
        ("CD20", ("MS4A1",)),
        ("c10orf10, CD3D", ("DEPP1", "CD3D")),
        ("C15orf54", ("C15orf54",)),
        ("IgD,CD45RA,HLA-DR", ()),
        ("CD25", ("IL2RA", "ISG20")),
        ("CD25,IL2RA", ("IL2RA", "ISG20", "IL2RA")),
        ("CD16,FCGR3", ("FCGR3A", "FCGR3B")),
        ("CD20,MS4A1", ("MS4A1",)),
        ("a gene of one's own", ("AGENEOFONE'SOWN",)),
    ],
)
def test_symbols_are_corrected_as_the_original_corrects_them(text: str, symbols: tuple[str, ...]) -> None:
    assert approved_symbols(text) == symbols


@pytest.mark.shared
def test_the_published_table_becomes_what_the_original_makes_of_it(shared: Path) -> None:
    folder = shared / "data" / "sctype"
    table = read_marker_table((folder / "ScTypeDB_full.xlsx").read_bytes())
    want = json.loads((folder / "prepared_markers.json").read_text())
    assert list(table) == list(want)
    for tissue, types in table.items():
        # R made the names of repeated types unique there.
        names = [re.sub(r"\.\d$", "", name) for name in want[tissue]["positive"]]
        assert [item.name for item in types] == names
        for side in ("positive", "negative"):
            assert [list(getattr(item, side)) for item in types] == list(want[tissue][side].values())


def test_json_is_taken_as_it_is() -> None:
    table = read_marker_table(b'{"Skin": {"positive": {"B": ["CD20"], "A": []}, "negative": {"B": ["X"]}}}')
    assert [(x.name, x.positive, x.negative) for x in table["Skin"]] == [("B", ("CD20",), ("X",)), ("A", (), ())]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 cut",
        b"not JSON",
        b"[]",
        b"{}",
        b'{"Skin": {"positive": {}}}',
        b'{"Skin": {"negative": {}}}',
        b'{"Skin": {"positive": {"B": "CD20"}}}',
        b'{"Skin": {"positive": {"B": [1]}}}',
        b'{"Skin": {"positive": [1]}}',
        workbook([["tissue", "type"]]),
        workbook([HEADER]),
        workbook([]),
        workbook([], sheet="<worksheet"),
        workbook([], sheet='<!DOCTYPE x [<!ENTITY a "b">]><worksheet>&a;</worksheet>'),
    ],
)
def test_anything_else_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(WorkerError, match=r"SCTYPE_TABLE.*geneSymbolmore1") as told:
        read_marker_table(content)
    assert told.value.code is ErrorCode.INVALID_INPUT
