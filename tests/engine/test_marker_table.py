"""Where the table of marker genes comes from, and that it is the one that was meant."""

import hashlib
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cellworker.engine.annotators import marker_table as tables
from cellworker.engine.annotators.marker_table import PUBLISHED_SHA256, marker_table, read_table, table_places
from cellworker.errors import ErrorCode, WorkerError
from cellworker.settings import Settings

CONTENT = b"a table"
PIN = f"#sha256={hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An address that gives the table, and what was asked for there."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = self.path.startswith("/table")
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(CONTENT if found else b"no")

        def log_message(self, *arguments: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{listening.server_address[1]}", asked
    listening.shutdown()
    thread.join()
    listening.server_close()


def refused(source: str, cache: Path) -> str:
    with pytest.raises(WorkerError) as told:
        read_table(source, str(cache))
    assert told.value.code is ErrorCode.INVALID_INPUT
    # Whatever the reason: where to get it, and where to put it.
    assert "https://raw.githubusercontent.com/IanevskiAleksandr/sc-type/630e15cf" in told.value.message
    assert "DATA_DIR" in told.value.message
    return told.value.message


def test_a_pinned_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_bytes(CONTENT)
    assert read_table(f"{tmp_path}/own.json{PIN}", "") == CONTENT
    assert read_table(f"{tmp_path}/own.json{PIN.upper().replace('SHA', 'sha')}", "") == CONTENT


def test_another_file_is_refused_with_its_checksum(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_bytes(CONTENT)
    assert f"add {PIN} to the setting" in refused(f"{tmp_path}/own.json", tmp_path)
    assert PUBLISHED_SHA256 in refused(f"{tmp_path}/own.json", tmp_path)
    refused(f"{tmp_path}/own.json#sha256={'0' * 64}", tmp_path)


def test_a_missing_table_is_reported(tmp_path: Path) -> None:
    assert "No such file" in refused(f"{tmp_path}/none.xlsx", tmp_path)
    assert "cannot be read" in refused(str(tmp_path), tmp_path)


@pytest.mark.shared
def test_the_published_table_needs_no_pin(shared: Path) -> None:
    path = shared / "data" / "sctype" / "ScTypeDB_full.xlsx"
    assert read_table(str(path), "") == path.read_bytes()


def test_an_address_is_asked_once(server: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = server
    for _ in range(3):
        assert read_table(f"{address}/table?key=1{PIN}", str(tmp_path / "cache")) == CONTENT
    assert asked == ["/table?key=1"]
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(b"damaged")
    assert read_table(f"{address}/table{PIN}", str(tmp_path / "cache")) == CONTENT
    assert len(asked) == 2
    assert kept.read_bytes() == CONTENT


def test_what_an_address_gives_is_checked_and_not_kept(server: tuple[str, list[str]], tmp_path: Path) -> None:
    address, _ = server
    refused(f"{address}/table", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_address_that_gives_nothing_is_reported_without_its_secrets(
    server: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, _ = server
    assert "could not be fetched from 127.0.0.1 (Not Found)" in refused(f"{address}/none?signature=abc{PIN}", tmp_path)
    assert "abc" not in refused(f"{address}/none?signature=abc{PIN}", tmp_path)
    refused(f"http://127.0.0.1:1/table{PIN}", tmp_path)
    refused(f"http://user:word@[/table{PIN}", tmp_path)


def test_a_cache_that_cannot_be_written_is_done_without(server: tuple[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert read_table(f"{server[0]}/table{PIN}", str(tmp_path / "file")) == CONTENT


@pytest.fixture
def published(server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """ScType's own address gives `CONTENT`, and this environment has no table; returns what is asked for there."""
    monkeypatch.setattr(tables, "_FETCHED_FROM", f"{server[0]}/table")
    monkeypatch.setattr(tables, "PUBLISHED_SHA256", PIN.removeprefix("#sha256="))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    return server[1]


def places(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", store_dir=tmp_path / "store")


def test_the_published_table_is_fetched_once_and_reported(
    published: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert marker_table(places(tmp_path))() == CONTENT
    assert published == ["/table"]
    assert [record.getMessage() for record in caplog.records] == ["table of marker genes fetched"]


def test_the_table_that_an_image_holds_is_not_fetched(
    published: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tables.install_published()
    assert place.is_relative_to(tmp_path / "environment")
    assert marker_table(places(tmp_path))() == CONTENT
    assert published == ["/table"]
    place.write_bytes(b"damaged")
    assert marker_table(places(tmp_path))() == CONTENT
    assert len(published) == 2


def test_the_users_own_copy_goes_first(published: list[str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ScTypeDB_full.xlsx").write_bytes(b"another")
    with pytest.raises(WorkerError, match="has the SHA-256"):
        marker_table(places(tmp_path))()
    assert published == []


def test_another_published_table_than_the_pinned_one_is_refused(
    published: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "PUBLISHED_SHA256", "0" * 64)
    with pytest.raises(WorkerError, match="has the SHA-256"):
        marker_table(places(tmp_path))()
    with pytest.raises(WorkerError, match="has the SHA-256"):
        tables.install_published()
    assert not (tmp_path / "environment").exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.shared
def test_the_published_file_passes_its_pinned_checksum(
    published: list[str], tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (shared / "data" / "sctype" / "ScTypeDB_full.xlsx").read_bytes()
    monkeypatch.setattr(sys.modules[__name__], "CONTENT", content)
    monkeypatch.setattr(tables, "PUBLISHED_SHA256", PUBLISHED_SHA256)
    assert marker_table(places(tmp_path))() == content


def test_without_a_network_the_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_FETCHED_FROM", "http://127.0.0.1:9/table")
    told = refused(f"{tmp_path}/ScTypeDB_full.xlsx", tmp_path)
    assert "ScTypeDB_full.xlsx cannot be read (No such file or directory), and it could not be fetched" in told
    assert told.count("ScType needs its table") == 1


def test_without_a_setting_the_table_is_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_FETCHED_FROM", "http://127.0.0.1:9/table")
    settings = Settings(data_dir=tmp_path / "data", store_dir=tmp_path / "store")
    assert table_places(settings) == (f"{tmp_path}/data/ScTypeDB_full.xlsx", f"{tmp_path}/store/tables")
    with pytest.raises(WorkerError, match=r"ScTypeDB_full\.xlsx cannot be read"):
        marker_table(settings)()
    (tmp_path / "own").write_bytes(CONTENT)
    assert marker_table(Settings(sctype_table=f"{tmp_path}/own{PIN}"))() == CONTENT
