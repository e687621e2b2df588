"""The pages: the explorer at /, the console beside it, and nothing else from the disk."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cellworker.local.page import pages
from cellworker.local.page.browser import is_desktop


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "explorer"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>the explorer</title>")
    (folder / "licences.txt").write_text("preact (MIT)")
    (folder / "assets" / "index-abc.js").write_text("export {};")
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr(pages, "BUNDLE", folder)
    return folder


async def test_the_explorer_is_at_the_root_under_a_strict_policy(worker: Any, bundle: Path) -> None:
    status, content, headers = await worker.get("/")
    assert status == 200
    assert b"the explorer" in content
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy, "nothing from elsewhere"
    assert headers["Cache-Control"] == "no-cache"


async def test_its_files_are_served_with_their_types_and_kept(worker: Any, bundle: Path) -> None:
    status, content, headers = await worker.get("/assets/index-abc.js")
    assert (status, content) == (200, b"export {};")
    assert headers["Content-Type"].startswith("text/javascript")
    assert "immutable" in headers["Cache-Control"]
    status, content, _ = await worker.get("/licences.txt")
    assert (status, content) == (200, b"preact (MIT)")


@pytest.mark.parametrize(
    "name", ["..%2fsecret.txt", "..%2f..%2fsecret.txt", "%2e%2e", "nothing.js", ".", "index-abc.js%00"]
)
async def test_no_other_file_is(worker: Any, bundle: Path, name: str) -> None:
    status, content, _ = await worker.get(f"/assets/{name}")
    assert status in (200, 404)
    assert b"secret" not in content
    assert status == 404 or b"the explorer" in content, "a name of dots is the root"


async def test_without_the_bundle_the_console_takes_its_place(worker: Any, bundle: Path, tmp_path: Path) -> None:
    (bundle / "index.html").unlink()
    status, content, _ = await worker.get("/")
    assert status == 200
    assert b"<title>cellworker: console</title>" in content
    status, content, _ = await worker.get("/licences.txt")
    assert status == 404
    assert b"make web" in content


async def test_the_console_has_no_code_in_its_page(worker: Any) -> None:
    status, content, headers = await worker.get("/console")
    assert status == 200
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert b"<style" not in content
    assert b"style=" not in content
    assert content.count(b"<script") == content.count(b'<script src="./console.js"')
    for name in ("console.js", "console.css"):
        status, content, _ = await worker.get(f"/{name}")
        assert status == 200
        assert content


async def test_work_is_cancelled_by_its_etag(worker: Any) -> None:
    worker.engine.hold = asyncio.Event()
    async with worker.events() as events:
        data = await worker.post({"name": "GeneExpression", "genes": ["LYZ"]})
        await events.until("Heartbeat-")
        async with worker.session.get(f"{worker.url}/v2/workRequest/x1") as answer:
            assert (await answer.json())["data"] == [{"ETag": data["ETag"], "name": "GeneExpression"}]
        async with worker.session.delete(f"{worker.url}/v2/workRequest/x1/{data['ETag']}") as answer:
            assert (await answer.json())["data"] == {"cancelled": True}
        notice = await events.until("WorkResponse-")
    assert notice["response"]["error"] is True
    assert notice["response"]["errorCode"] == "REQUEST_CANCELLED"
    worker.engine.hold = None
    async with worker.session.get(f"{worker.url}/v2/workRequest/x1") as answer:
        assert (await answer.json())["data"] == []
    async with worker.session.delete(f"{worker.url}/v2/workRequest/x1/{data['ETag']}") as answer:
        assert (await answer.json())["data"] == {"cancelled": False}
    async with worker.events() as events:
        again = await worker.post({"name": "GeneExpression", "genes": ["LYZ"]})
        assert again["signedUrl"] is None, "what was cancelled is not stored"
        await events.until("WorkResponse-")


async def test_only_the_served_experiment_has_barcodes_and_work(worker: Any) -> None:
    for call in (worker.session.get, worker.session.delete):
        path = "experiments/other/barcodes" if call == worker.session.get else "workRequest/other/abc"
        async with call(f"{worker.url}/v2/{path}") as answer:
            assert answer.status == 404


async def test_pages_of_other_machines_cannot_cancel(worker: Any) -> None:
    headers = {"Origin": "https://example.org"}
    async with worker.session.delete(f"{worker.url}/v2/workRequest/x1/abc", headers=headers) as answer:
        assert answer.status == 403


class _Output:
    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("environment", "terminal", "platform", "opens"),
    [
        ({"DISPLAY": ":0"}, True, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, "linux", True),
        ({}, True, "darwin", True),
        ({}, True, "linux", False),
        ({"DISPLAY": ":0"}, False, "linux", False),
        ({"DISPLAY": ":0", "CI": "true"}, True, "linux", False),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "a b"}, True, "linux", False),
        ({"SSH_TTY": "/dev/pts/1"}, True, "darwin", False),
    ],
)
def test_the_browser_opens_only_on_a_desktop(environment, terminal, platform, opens):
    assert is_desktop(environment, _Output(terminal=terminal), platform) is opens  # type: ignore[arg-type]
