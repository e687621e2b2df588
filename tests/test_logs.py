"""Logs are JSON lines, and hold no credential."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import aiobotocore.session
import pytest
import redis.asyncio as redis
from aiohttp import web

from cellworker import logs

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123"


@pytest.fixture
def logger():
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {item: item.level for item in (root, *map(logging.getLogger, logs._TALKATIVE))}
    yield logging.getLogger("cellworker.test")
    root.handlers[:] = handlers
    for item, level in levels.items():
        item.setLevel(level)


def lines(capsys):
    return [json.loads(text) for text in capsys.readouterr().err.splitlines()]


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
        {"text": "cannot reach rediss://worker:secret-1@cache:6379/0"},
        {"text": "cannot reach redis://:secret-1@cache:6379/0"},
        {"text": "Authorization: Basic secret-1"},
        {"text": "{'Authorization': 'secret-1', 'a': 1}"},
        {"text": '{\\"authJWT\\":\\"secret-1\\"}'},
        {"text": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=secret-1"},
        {"text": "aws_secret_access_key = secret-1 aws_session_token=secret-1"},
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


@pytest.mark.parametrize("text", ["request.Authorization: expected a string.", "https://host/path", "Signatures: 2"])
def test_sentences_without_a_credential_are_left_alone(text):
    assert logs.redact(text) == text


def test_facts_of_a_context_are_in_each_line_inside_it(logger, capsys):
    logs.configure("INFO")
    with logs.context(etag="e1", task="ListGenes", attempt=1):
        logs.log(logger, logging.INFO, "begun")
        with logs.context(experiment="x1", attempt=2):
            logs.log(logger, logging.INFO, "stored", etag="another")
            logging.getLogger("some.library").warning("retrying %s", "now")
        logs.log(logger, logging.INFO, "answered")
    logs.log(logger, logging.INFO, "after")
    begun, stored, library, answered, after = lines(capsys)
    assert (begun["etag"], begun["task"], begun["attempt"]) == ("e1", "ListGenes", 1)
    assert "experiment" not in begun
    assert (stored["etag"], stored["attempt"], stored["experiment"]) == ("another", 2, "x1")
    assert (library["event"], library["etag"], library["experiment"]) == ("retrying now", "e1", "x1")
    assert answered["attempt"] == 1
    assert "experiment" not in answered
    assert "etag" not in after


def test_a_context_ends_with_an_error_too(logger, capsys):
    logs.configure("INFO")
    with pytest.raises(ZeroDivisionError), logs.context(etag="e1"):
        raise ZeroDivisionError
    logs.log(logger, logging.INFO, "after")
    assert "etag" not in lines(capsys)[0]


def test_a_context_is_shown_at_a_terminal_too(logger, capsys):
    logs.configure("INFO", style="text")
    with logs.context(etag="e1"):
        logs.log(logger, logging.INFO, "stored", size=3)
    assert "stored etag=e1 size=3" in capsys.readouterr().err


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_credential_in_a_context_is_blanked(logger, capsys, style):
    logs.configure("INFO", style=style)
    with logs.context(authorization="secret-1", task=f"Bearer {TOKEN}"):
        logs.log(logger, logging.INFO, "begun")
        logging.getLogger("some.library").error("failed")
    text = capsys.readouterr().err
    assert text.count("redacted") == 4
    assert "secret-1" not in text
    assert TOKEN not in text


async def test_contexts_of_requests_worked_on_at_the_same_time_do_not_mix(logger, capsys):
    logs.configure("INFO")
    everybody = asyncio.Barrier(10)

    async def work(number):
        with logs.context(etag=f"e{number}"):
            await everybody.wait()
            logs.log(logger, logging.INFO, "computed", number=number)
            await asyncio.create_task(upload(number))
            await asyncio.to_thread(logs.log, logger, logging.INFO, "encoded", number=number)

    async def upload(number):
        await everybody.wait()
        logs.log(logger, logging.INFO, "uploaded", number=number)

    await asyncio.gather(*map(work, range(10)))
    found = lines(capsys)
    assert len(found) == 30
    assert all(line["etag"] == f"e{line['number']}" for line in found)


@pytest.fixture
async def s3() -> AsyncIterator[str]:
    """An S3 that knows how to say no."""

    async def refuse(request: web.Request) -> web.Response:
        assert "secret-1" in request.headers["X-Amz-Security-Token"]
        return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def ask_s3(url):
    session = aiobotocore.session.get_session()
    keys = {
        "aws_access_key_id": "key-id-1",
        "aws_secret_access_key": "secret-1",
        "aws_session_token": "session-secret-1",
    }
    async with session.create_client("s3", region_name="eu-west-1", endpoint_url=url, **keys) as client:
        with pytest.raises(client.exceptions.ClientError):
            await client.list_objects_v2(Bucket="b")


async def test_at_debug_the_libraries_do_not_print_credentials(logger, capsys, s3):
    logs.configure("DEBUG")
    await ask_s3(s3)
    async with redis.Redis.from_url("redis://worker:secret-1@127.0.0.1:1/0") as client:
        with pytest.raises(redis.ConnectionError):
            await client.publish("c", "m")
    logs.log(logger, logging.DEBUG, "our own details")
    text = capsys.readouterr().err
    assert "our own details" in text
    assert "secret-1" not in text
    assert "key-id-1" not in text


async def test_without_the_cap_they_would(logger, capsys, s3):
    """The test above would find a leak."""
    logs.configure("DEBUG")
    logging.getLogger("botocore").setLevel(logging.DEBUG)
    await ask_s3(s3)
    assert "key-id-1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["botocore", "aiobotocore", "urllib3", "redis"])
def test_the_cap_on_libraries_makes_none_of_them_louder_than_asked(logger, capsys, name):
    logs.configure("WARNING")
    logging.getLogger(f"{name}.inner").info("chatter")
    logging.getLogger(f"{name}.inner").warning("trouble")
    assert [line["event"] for line in lines(capsys)] == ["trouble"]
