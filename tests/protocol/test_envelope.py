"""Envelopes: what is accepted, what is refused in which words, and what may be shown of them."""

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode
from cellworker.protocol.envelope import InvalidEnvelopeError, WorkRequest, parse_timeout

TOKEN = "Bearer eyJraWQiOiJ0ZXN0In0.secret-payload.secret-signature"
ENVELOPE: dict[str, Any] = {
    "signedUrl": "https://results.example/abc?X-Amz-Signature=1",
    "ETag": "4b554074774c17f8a2fe41f63a57558c",
    "Authorization": TOKEN,
    "experimentId": "7b1c0a52-3f6e-4d0b-9c57-2f1d9e8a6b34",
    "timeout": "2099-12-31T23:59:59.000Z",
    "body": {"name": "ListGenes", "limit": 3},
    "requestProps": {"broadcast": True, "pagination": {"limit": 2}},
}


def parse(**changes: Any) -> WorkRequest:
    envelope = {key: value for key, value in {**ENVELOPE, **changes}.items() if value is not ...}
    return WorkRequest.parse(json.dumps(envelope).encode())


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_an_envelope_reports_its_fields() -> None:
    request = parse()
    assert (request.etag, request.task, request.broadcast) == (ENVELOPE["ETag"], "ListGenes", True)
    assert request.pagination == {"limit": 2}
    assert request.signed_url == ENVELOPE["signedUrl"]
    assert request.authorization == TOKEN
    assert request.timeout == datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("missing", ["signedUrl", "requestProps", "Authorization"])
def test_what_the_platform_sometimes_leaves_out_is_not_missed(missing: str) -> None:
    request = parse(**{missing: ...})
    assert request.task == "ListGenes"
    assert parse(**{missing: None}).task == "ListGenes"


def test_an_envelope_without_props_is_no_broadcast_and_has_no_page() -> None:
    request = parse(requestProps=..., signedUrl=...)
    assert (request.broadcast, request.pagination, request.signed_url) == (False, None, None)


def test_unknown_keys_are_kept_and_given_back() -> None:
    request = parse(socketId="randomID", PipelineRunETag=None, uuid=[1, {"a": 2}])
    assert request.redacted()["uuid"] == [1, {"a": 2}]
    assert request.redacted()["socketId"] == "randomID"
    assert "PipelineRunETag" in request.redacted()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ETag": ...}, "ETag"),
        ({"ETag": 3}, "ETag"),
        ({"ETag": "../../etc/passwd"}, "ETag"),
        ({"ETag": ""}, "ETag"),
        ({"experimentId": ...}, "experimentId"),
        ({"experimentId": ["a"]}, "experimentId"),
        ({"experimentId": ""}, "experimentId"),
        ({"timeout": ...}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": 4}, "timeout"),
        ({"body": ...}, "body"),
        ({"body": [1]}, "body"),
        ({"body": {}}, "body.name"),
        ({"body": {"name": 5}}, "body.name"),
        ({"requestProps": "x"}, "requestProps"),
        ({"signedUrl": 1}, "signedUrl"),
        ({"Authorization": {}}, "Authorization"),
    ],
)
def test_a_refusal_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEnvelopeError) as refusal:
        parse(**changes)
    assert refusal.value.code is ErrorCode.INVALID_INPUT
    assert field in refusal.value.message
    assert "secret" not in refusal.value.message
    assert refusal.value.etag == (None if "ETag" in changes else ENVELOPE["ETag"])


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b'{"ETag": NaN}', b"[" * 100_000])
def test_what_is_no_object_is_refused_without_an_answer(message: bytes) -> None:
    with pytest.raises(InvalidEnvelopeError) as refusal:
        WorkRequest.parse(message)
    assert refusal.value.etag is None


def test_a_deeply_nested_envelope_is_refused_under_its_etag() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = {"a": deep}
    with pytest.raises(InvalidEnvelopeError, match="nested deeper") as refusal:
        parse(body=deep)
    assert refusal.value.etag == ENVELOPE["ETag"]
    assert refusal.value.request.redacted()["ETag"] == ENVELOPE["ETag"]


def test_a_refused_envelope_can_be_reported_on_without_its_secrets() -> None:
    with pytest.raises(InvalidEnvelopeError) as refusal:
        parse(body=[], authJWT=TOKEN)
    request = refusal.value.request
    assert (request.etag, request.experiment_id) == (ENVELOPE["ETag"], ENVELOPE["experimentId"])
    assert "secret" not in json.dumps(request.redacted())


def test_tokens_are_removed_at_every_depth_and_all_else_is_unchanged() -> None:
    body = {"name": "X", "config": {"authJwt": TOKEN, "list": [{"authorization": TOKEN, "b": 1}]}}
    request = parse(body=body, authJWT=TOKEN)
    shown = request.redacted()
    assert "secret" not in json.dumps(shown)
    assert shown["body"] == {"name": "X", "config": {"list": [{"b": 1}]}}
    assert [key for key in ENVELOPE if key != "Authorization"] == list(shown)
    assert request.body == body


def test_a_token_in_a_text_is_blacked_out_with_and_without_its_bearer() -> None:
    request = parse()
    assert "secret" not in request.scrub(f"cannot send {TOKEN}: {TOKEN.split()[1]} is wrong").replace("[secret]", "")


def test_a_request_does_not_print_its_token() -> None:
    assert "secret" not in repr(parse())


def test_reading_changes_nothing_of_the_body() -> None:
    raw = deepcopy(ENVELOPE)
    request = WorkRequest.from_object(raw)
    request.redacted()["body"]["name"] = "changed"
    assert raw == ENVELOPE
    assert request.envelope["body"] == ENVELOPE["body"]


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-23T17:55:43.000Z",
        "2026-07-23T17:55:43Z",
        "2026-07-23 17:55:43+00:00",
        "2026-07-23T19:55:43+0200",
        "2026-07-23T19:55:43 +02:00",
        "20260723T175543Z",
        "2026-07-23 17:55:43 UTC",
        "Thu, 23 Jul 2026 17:55:43 GMT",
        "Thu, 23 Jul 2026 19:55:43 +0200",
        "Thu, 23 Jul 2026 17:55:43 -0000",
        "Thu Jul 23 2026 19:55:43 GMT+0200 (Central European Summer Time)",
        "  2026-07-23T13:55:43  ",
        "2026-07-23 13:55:43",
        "2026/07/23 13:55:43",
        "7/23/2026, 1:55:43 PM",
        "July 23, 2026 13:55:43",
    ],
)
def test_times_are_read_as_people_and_browsers_write_them(text: str, new_york: None) -> None:
    assert parse_timeout(text) == datetime(2026, 7, 23, 17, 55, 43, tzinfo=UTC)


def test_midnight_may_be_the_end_of_a_day() -> None:
    assert parse_timeout("2026-07-23T24:00:00Z") == datetime(2026, 7, 24, tzinfo=UTC)


def test_the_end_of_time_is_a_time(new_york: None) -> None:
    assert parse_timeout("9999-12-31T23:59:59").year == 9999


@pytest.mark.parametrize(
    "text", ["", "soon", "tomorrow", "1e400", "2026-13-01", "x" * 5000, "0001-01-01T00:00:00+23:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_timeout(text)


@given(st.datetimes().filter(lambda moment: 1 < moment.year < 9999), st.integers(-14 * 60, 14 * 60))
def test_every_iso_time_with_a_zone_is_read_exactly(moment: datetime, minutes: int) -> None:
    zone = timedelta(minutes=minutes)
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    assert parse_timeout(f"{moment.isoformat()}{offset}") == moment.replace(tzinfo=UTC) - zone


def test_a_request_expires_at_its_time_out() -> None:
    request = parse(timeout="2026-07-23T17:55:43Z")
    moment = datetime(2026, 7, 23, 17, 55, 43, tzinfo=UTC)
    assert request.expired(moment)
    assert not request.expired(moment - timedelta(milliseconds=1))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
fields = st.dictionaries(st.sampled_from([*ENVELOPE, "authJWT", "other"]), json_values, max_size=6)


@given(fields)
def test_whatever_comes_is_read_or_refused_in_words(changes: dict[str, Any]) -> None:
    try:
        request = WorkRequest.parse(json.dumps({**ENVELOPE, **changes}).encode())
    except InvalidEnvelopeError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert refused.message.endswith(".")
        refused.request.redacted()
    else:
        assert not {"authorization", "authjwt"} & {key.lower() for key in request.redacted()}


@pytest.mark.shared
def test_the_platforms_own_requests_are_read(shared: Path) -> None:
    requests = json.loads((shared / "requests.json").read_text())
    parsed = [WorkRequest.parse(json.dumps(item).encode()) for item in requests]
    assert len({item.task for item in parsed}) == 21
    assert all("Authorization" not in item.redacted() for item in parsed)
