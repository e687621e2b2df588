"""The net that other tests cast for secrets has no hole where a secret was planted."""

import base64
import gzip
import io
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import zstandard

TESTS = str(Path(__file__).parent)
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

from secret_scan import assert_no_secrets, find_secrets  # noqa: E402

TOKEN = 'eyJhbGci.plan/ted+tok=en~é"x'
SECRETS = {"the user's token": TOKEN}


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_stream(data: bytes) -> bytes:
    """Without the size of the content in the header, as a stream is written."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


def in_json(data: bytes) -> bytes:
    return json.dumps({"outer": {"Authorization": data.decode()}}).encode()


def tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("token")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "base64, alignment 0": b64,
    "base64, alignment 1": lambda data: b64(b"u" + data),
    "base64, alignment 2": lambda data: b64(b"us" + data + b":"),
    "base64, alignment 0, more behind": lambda data: b64(data + b"more"),
    "base64 for addresses": lambda data: base64.urlsafe_b64encode(b"??>" + data),
    "hexadecimal": lambda data: data.hex().encode(),
    "hexadecimal, capitals": lambda data: data.hex().upper().encode(),
    "percent-encoded": lambda data: quote(data, safe="").encode(),
    "percent-encoded, small letters": lambda data: (
        quote(data, safe="").lower().replace("eyjhbgci", "eyJhbGci").encode()
    ),
    "percent-encoded as a form": lambda data: quote_plus(data).encode(),
    "percent-encoded twice": lambda data: quote(quote(data, safe=""), safe="").encode(),
    "JSON": in_json,
    "JSON with escaped slashes": lambda data: in_json(data).replace(b"/", b"\\/"),
    "JSON in JSON": lambda data: in_json(in_json(data)),
    "JSON, percent-encoded": lambda data: quote(in_json(data)).encode(),
    "gzip": gzip.compress,
    "gzip, second member": lambda data: gzip.compress(b"first") + gzip.compress(data),
    "gzip, cut off": lambda data: gzip.compress(data + bytes(range(256)) * 40)[:-200],
    "gzip, damaged": lambda data: gzip.compress(data)[:-8] + b"\xff" * 40,
    "gzip, large": lambda data: gzip.compress(os.urandom(50_000) + data + os.urandom(50_000)),
    "tar.gz": tar,
    "zstd": zstd,
    "zstd stream": zstd_stream,
    "zstd, second frame": lambda data: zstd(b"first") + zstd(data),
    "zstd after a header": lambda data: b"PNG?" + zstd(data),
    "base64 of JSON": lambda data: b64(in_json(b"x")) + b64(data),
    "zstd of JSON in base64": lambda data: b64(zstd(in_json(data))),
    "gzip of JSON in base64 for addresses, unpadded": lambda data: base64.urlsafe_b64encode(
        gzip.compress(in_json(data))
    ).rstrip(b"="),
    "gzip in zstd": lambda data: zstd(gzip.compress(b64(data))),
}
SURROUNDINGS = [b"%s", b'{"time":"12:00","event":"\xff\x00%s"}\n', b"\\n%%20 %s  tail"]


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
@pytest.mark.parametrize("name", ENCODINGS)
def test_a_planted_secret_is_found(name: str, surrounding: bytes) -> None:
    planted = surrounding % ENCODINGS[name](TOKEN.encode())
    (first, *_) = find_secrets(SECRETS, {"log": b"harmless " + planted})
    assert (first.secret, first.where) == ("the user's token", "log")


@pytest.mark.parametrize("length", range(8, 30))
@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("behind", range(3))
def test_a_secret_of_any_length_is_found_in_base64(length: int, before: int, behind: int) -> None:
    secret = "kX7~q?Zp0_Lw9>Rt5|Vn3=Bc1{Md8}"[:length]
    planted = base64.b64encode(b"a" * before + secret.encode() + b"z" * behind)
    assert find_secrets({"key": secret}, {"log": planted})


@pytest.mark.parametrize("name", ENCODINGS)
def test_nothing_is_found_where_nothing_was_planted(name: str) -> None:
    harmless = ENCODINGS[name](TOKEN.swapcase().encode())
    assert find_secrets(SECRETS, {"log": harmless, "text": TOKEN[:-1], "events": [{"a": 1}, None]}) == []


def test_files_of_a_folder_and_their_names_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "x1" / "deep").mkdir(parents=True)
    (tmp_path / "x1" / "deep" / "e1").write_bytes(zstd(in_json(TOKEN.encode())))
    (tmp_path / "planted-name-of-a-file").touch()
    secrets = SECRETS | {"a name": "planted-name"}
    found = {finding.secret: finding for finding in find_secrets(secrets, {"bucket": tmp_path})}
    assert found["the user's token"].where == "bucket/x1/deep/e1"
    assert "zstd" in found["the user's token"].encoding
    assert found["a name"].where == "bucket/planted-name-of-a-file (name)"


def test_events_and_other_objects_are_looked_at() -> None:
    events = [("Heartbeat-x", {"type": "a"}), ("WorkResponse-e", {"request": {"body": [{"token": TOKEN}]}})]
    (finding,) = find_secrets(SECRETS, {"events": events})
    assert finding.where == "events[1][1]/request/body[0]/token"
    assert find_secrets(SECRETS, {"keys": {"outer": {TOKEN: 1}}})
    assert find_secrets(SECRETS, {"error": ValueError("failed", TOKEN.replace('"', ""), TOKEN)})


def test_a_header_is_found_by_its_token_alone() -> None:
    assert find_secrets({"header": "Bearer planted-token"}, {"log": "?jwt=planted-token"})


def test_the_complaint_names_the_place_and_not_the_value() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_no_secrets(SECRETS, {"log": b"harmless", "metrics": f"x {TOKEN}"})
    assert "the user's token in metrics (plain)" in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert_no_secrets(SECRETS, {"log": b"harmless"})


def test_a_scan_that_cannot_find_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to look for"):
        find_secrets({}, {"log": b""})
    with pytest.raises(ValueError, match="shorter"):
        find_secrets({"pin": "1234567"}, {"log": b""})
    with pytest.raises(FileNotFoundError):
        find_secrets(SECRETS, {"bucket": tmp_path / "gone"})
