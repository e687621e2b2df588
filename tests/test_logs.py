"""Logs are JSON lines, and hold no credential."""

import json
import logging

import pytest

from cellworker import logs

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123"


@pytest.fixture
def logger():
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield logging.getLogger("cellworker.test")
    root.handlers[:], level = before
    root.setLevel(level)


def test_an_event_is_one_line_of_json_with_its_facts(logger, capsys):
    logs.configure("INFO")
    logs.log(logger, logging.INFO, "request", task="ListGenes", ms=1.5, cells=[1, 2], nothing=None)
    line = json.loads(capsys.readouterr().err)
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["logger"], line["event"]) == ("INFO", "cellworker.test", "request")
    assert (line["task"], line["ms"], line["cells"], line["nothing"]) == ("ListGenes", 1.5, [1, 2], None)


def test_events_below_the_level_are_not_written(logger, capsys):
    logs.configure("warning")
    logs.log(logger, logging.INFO, "request")
    assert capsys.readouterr().err == ""


def test_an_errors_traceback_stays_in_the_line(logger, capsys):
    logs.configure("INFO")
    logs.log(logger, logging.ERROR, "failed", error=ValueError("why\nnot"))
    (text,) = capsys.readouterr().err.splitlines()
    assert "ValueError: why\nnot" in json.loads(text)["traceback"]


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize(
    "facts",
    [
        {"Authorization": "secret-1"},
        {"auth_jwt": "secret-1"},
        {"request": {"headers": [{"authJWT": "secret-1"}]}},
        {"url": f"https://x?X-Amz-Signature=secret-1&a={TOKEN}"},
        {"text": "Bearer secret-1"},
        {"key": f"AKIAABCDEFGHIJKLMNOP {TOKEN}"},
        {"error": RuntimeError(f"Bearer secret-1 {TOKEN}")},
    ],
    ids=str,
)
def test_credentials_are_blanked(logger, capsys, facts, style):
    logs.configure("INFO", style=style)
    logs.log(logger, logging.ERROR, f"event {TOKEN}", **facts)
    text = capsys.readouterr().err
    assert "redacted" in text
    for secret in ("secret-1", TOKEN, "AKIAABCDEFGHIJKLMNOP"):
        assert secret not in text
