"""Names from outside: hostile ones become part of no path and of no key, wherever they enter, and end nothing."""

import ast
import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from mypy import build, nodes, options, types
from mypy.modulefinder import BuildSource

from cellworker.errors import WorkerError
from cellworker.formats.opening.shelf import Fingerprint, Shelf
from cellworker.gateway.aws.s3 import S3Object
from cellworker.gateway.core.journal import ObjectJournal, StoredObject, orphaned_experiments
from cellworker.gateway.core.journal_keys import EntryKey, parse_key
from cellworker.gateway.core.sealing import Sealer
from cellworker.gateway.engine_client.experiment_folder import ExperimentFolder, forget_experiment
from cellworker.gateway.platform.labels import PodLabels, assigned_folder
from cellworker.gateway.platform.names import Names
from cellworker.identifiers import (
    ETag,
    ExperimentId,
    FileName,
    Identifier,
    ObjectName,
    PodName,
    QueueHash,
    ResultPath,
    SandboxId,
    StoreName,
    parse,
)
from cellworker.local.experiment import find_experiment
from cellworker.local.results import DiskResults
from cellworker.protocol.envelope import InvalidEnvelopeError, WorkRequest
from cellworker.settings import Settings

KINDS: list[type[Identifier]] = [
    ETag, ExperimentId, FileName, ObjectName, PodName, QueueHash, SandboxId, StoreName,
]  # fmt: skip
NASTY = ["", ".", "..", "/", "\\", "\0", "\n", "\r", "\x1b[2J", "\x7f", "\x85", "%2e%2e", "~", "*", "$(id)", "a" * 300]
NASTY += ["\u202e", "\u2024\u2024", "\uff0e\uff0e", "\u0663", "\ud800", "é" * 130, "-rf", "CON", " ", "x/y", "x/../y"]
SEPARATORS = st.sampled_from(["", "/", "//", "\\", ".", "\0", "-"])


@st.composite
def hostile(draw: st.DrawFn) -> str:
    """A name that leads astray, most probably."""
    pieces = draw(st.lists(st.sampled_from(NASTY) | st.text(max_size=6) | st.just("abc"), min_size=1, max_size=4))
    return "".join(piece + draw(SEPARATORS) for piece in pieces[:-1]) + pieces[-1]


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Path]:
    """A folder whose surroundings must stay as they are."""
    inside = tmp_path / "around" / "data"
    inside.mkdir(parents=True)
    kept = [tmp_path / "kept", tmp_path / "around" / "kept", inside / "kept", inside / ".stores" / "kept"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("canary")
    yield inside
    assert [path.read_text() for path in kept] == ["canary"] * 4
    outside = {path.name for path in [*tmp_path.iterdir(), *(tmp_path / "around").iterdir()]}
    assert outside <= {"kept", "around", "data"}


def explore(test: Any, number: int = 150) -> None:
    """Call a test with hostile names, the plain ones always among them."""
    for name in NASTY:
        test(name)
    hypothesis.settings(max_examples=number, database=None, deadline=None)(hypothesis.given(hostile())(test))()


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_of_any_kind_leads_nowhere_else(kind: type[Identifier], tmp_path: Path) -> None:
    def check(text: str) -> None:
        if not kind.fits(text):
            with pytest.raises(WorkerError, match=kind.KIND):
                kind(text)
            assert parse(kind, text, "test") is None
            return
        name = kind(text)
        path = tmp_path / name
        assert path.resolve().is_relative_to(tmp_path)
        assert path != tmp_path
        assert path.relative_to(tmp_path).parts == tuple(text.split("/")), "no part is lost on the way"
        assert text.isprintable() or kind in (FileName, ObjectName)
        assert not any(ord(letter) < 32 for letter in text)
        assert len(text.split("/")) == 1 or kind is ObjectName

    explore(check)


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        (ExperimentId, ["a", "4f1c2f3e-0000-4000-8000-000000000000", "test-experiment-id", "A.b_c"]),
        (ETag, ["d41d8cd98f00b204e9800998ecf8427e", "_a", "-a"]),
        (PodName, ["worker-6d4cf56db6-abcde", "host.example"]),
        (SandboxId, ["default", "a", "pr-12"]),
        (QueueHash, ["0" * 40, "ab12"]),
        (ObjectName, ["r.rds", "matrix_dir.tar.zst", "a b/c (1).txt", "é/ü"]),
        (FileName, ["a b.csv.gz", "é", "x" * 255]),
        (StoreName, ["0" * 64]),
        (ResultPath, ["/tmp/cellworker-scratch-a_1/results/request-1-table.csv.gz"]),
    ],
)
def test_names_as_the_platform_gives_them_are_names(kind: type[Identifier], good: list[str]) -> None:
    assert [kind(text) for text in good] == good


def test_a_result_is_a_file_in_an_engines_folder_of_results_and_no_link(tmp_path: Path) -> None:
    results = tmp_path / "cellworker-scratch-ab12" / "results"
    results.mkdir(parents=True)
    good = results / "request-1-processed.rds"
    good.write_text("result")
    assert ResultPath(str(good)).file() == good
    (tmp_path / "secret").write_text("secret")
    (results / "request-2-link").symlink_to(tmp_path / "secret")
    (results / "request-3-folder").mkdir()
    (tmp_path / "cellworker-scratch-linked").symlink_to(tmp_path / "cellworker-scratch-ab12")
    for bad in (
        results / "request-2-link",
        results / "request-3-folder",
        results / "request-4-missing",
        tmp_path / "cellworker-scratch-linked" / "results" / good.name,
    ):
        with pytest.raises(WorkerError, match="result: expected"):
            ResultPath(str(bad)).file()

    def check(text: str) -> None:
        for path in (
            text,
            f"{results}/{text}",
            f"{results}/request-1-{text}",
            f"{tmp_path}/{text}/results/request-1-a",
        ):
            if ResultPath.fits(path):
                resolved = Path(path).resolve()
                assert resolved.parent.name == "results"
                assert resolved.parent.parent.name.startswith("cellworker-scratch-")

    explore(check)


def test_a_bad_name_is_logged_once_and_as_text(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellworker.identifiers._told", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert parse(ExperimentId, "../\x1b[2J\u202eevil", "a place of this test") is None
    (record,) = caplog.records
    assert record.facts == {  # type: ignore[attr-defined]
        "kind": "experimentId",
        "name": "../\\x1b[2J\\u202eevil",
        "where": "a place of this test",
    }


# --- each entry ---


def test_labels_and_settings(canaries: Path) -> None:
    file = canaries.parent.parent / "labels"

    def check(text: str) -> None:
        quoted = json.dumps(text) if text.isascii() else f'"{text}"'
        file.write_text(
            f"experimentId={quoted}\nsandboxId={quoted}\nworkQueueHash={quoted}\n", "utf-8", "surrogatepass"
        )
        for settings in (
            Settings(labels_file=file, k8s_env="x"),
            Settings(labels_file=file.with_name("none"), k8s_env="x", experiment_id=text, sandbox_id=text),
        ):
            labels = PodLabels(settings)
            folder = assigned_folder(labels, canaries)()
            assert folder is None or (folder.parent == canaries and folder.name == labels.experiment_id)
            names = Names("staging", "000000000001", "eu-west-1")
            if labels.sandbox_id is not None:
                assert names.api_url(labels.sandbox_id).count(".") == 4
            if labels.work_queue_hash is not None:
                assert len(names.queue(labels.work_queue_hash)) <= 80
        (canaries / ".serve").write_text(text, "utf-8", "surrogatepass")
        folder = assigned_folder(PodLabels(Settings(labels_file=file.with_name("none"), k8s_env="x")), canaries)()
        assert folder is None or folder.parent == canaries
        (canaries / ".serve").unlink()

    try:
        explore(check)
    finally:
        file.unlink(missing_ok=True)
        (canaries / ".serve").unlink(missing_ok=True)


class Bucket:
    """Objects of whatever names."""

    def __init__(self, *keys: str) -> None:
        self.objects: dict[str, bytes] = dict.fromkeys(keys, b"x")

    async def put(self, key: str, content: bytes) -> None:
        self.objects[key] = content

    async def get(self, key: str) -> bytes:
        return self.objects.get(key, b"")

    async def listing(self, prefix: str) -> list[StoredObject]:
        return [StoredObject(key, len(value), 1000.0) for key, value in self.objects.items() if key.startswith(prefix)]

    async def remove(self, key: str) -> None:
        self.objects[key] = b""


def test_keys_of_the_journal(canaries: Path) -> None:
    def check(text: str) -> None:
        keys = [
            f".journal/{text}/evil/0",
            f".journal/x1/{text}/0",
            f".journal/x1/evil/{text}",
            f".journal/{text}",
            text,
        ]
        bucket = Bucket(*keys)
        for key in keys:
            found = parse_key(key)
            assert found is None or found.text == key, "a key that was read is the key that is written"
        for experiment_id in asyncio.run(orphaned_experiments(bucket)):
            forget_experiment(canaries, experiment_id)
        journal = ObjectJournal(bucket, ExperimentId("x1"), PodName.of(text), Sealer(b"k" * 32))
        assert asyncio.run(journal.orphans()) == []
        ours = {key for key in bucket.objects if key not in keys}
        assert all(parse_key(key) is not None for key in ours)
        assert all(key.startswith(".journal/x1/") for key in ours)

    explore(check, 60)


def test_the_name_of_the_pod_is_always_one_and_another_for_another_pod() -> None:
    explore(lambda text: None if PodName.fits(PodName.of(text)) else pytest.fail(text))
    assert PodName.of("..") != PodName.of(".")
    assert PodName.of("worker-1") == "worker-1"


def test_what_an_idle_pod_forgets_is_only_what_was_fetched(canaries: Path) -> None:
    for name in ("data", "results", "x1"):
        (canaries / name).mkdir()
        forget_experiment(canaries, ExperimentId(name))
        assert (canaries / name).exists()
    (canaries / "x1" / ".sync.json").touch()
    forget_experiment(canaries, ExperimentId("x1"))
    assert not (canaries / "x1").exists()


def test_objects_of_an_experiment(canaries: Path) -> None:
    class Files:
        async def list(self) -> list[S3Object]:
            return []

        async def download(self, item: S3Object, path: Path, on_bytes: Any) -> None:
            await asyncio.to_thread(path.write_bytes, b"1")

    def check(text: str) -> None:
        folder = ExperimentFolder(canaries, ExperimentId("x1"))
        keys = [f"x1/{text}", f"x1/r.rds/{text}", f"x1/{text}/r.rds", text, "x1/r.rds"]
        wanted = folder.wanted([S3Object(key, 1, "etag") for key in keys])
        assert "x1/r.rds" in [item.key for item in wanted]
        for item in folder.missing(wanted):
            asyncio.run(folder.fetch(Files(), item))
        folder.commit(wanted)
        assert not folder.outdated(wanted)
        lying = {path for path in folder.path.rglob("*") if path.is_file() and not path.name.startswith(".")}
        assert lying == {canaries / item.key for item in wanted}

    explore(check, 60)


def test_a_file_takes_the_place_of_a_folder_whose_files_are_gone(canaries: Path) -> None:
    class Files:
        async def list(self) -> list[S3Object]:
            return []

        async def download(self, item: S3Object, path: Path, on_bytes: Any) -> None:
            await asyncio.to_thread(path.write_bytes, b"1")

    folder = ExperimentFolder(canaries, ExperimentId("x1"))
    for name in ("a/b/c", "a", "a/b", "a/b/c", "d"):
        wanted = folder.wanted([S3Object(f"x1/{name}", 1, "etag"), S3Object("x1/r.rds", 1, "etag")])
        for item in folder.missing(wanted):
            asyncio.run(folder.fetch(Files(), item))
        folder.commit(wanted)
        assert not folder.outdated(wanted)
        assert (folder.path / name).read_bytes() == b"1"
    assert not (folder.path / "a").exists()


def test_etags_in_envelopes_and_addresses(canaries: Path) -> None:
    results = DiskResults(canaries / ".results")

    def check(text: str) -> None:
        envelope = {
            "ETag": text,
            "experimentId": "x1",
            "timeout": "2099-01-01T00:00:00Z",
            "body": {"name": "ListGenes"},
        }
        if not ETag.fits(text):
            with pytest.raises(InvalidEnvelopeError) as caught:
                WorkRequest.from_object(envelope)
            assert caught.value.etag is None
            assert results.find(text) is None  # type: ignore[arg-type]
            return
        etag = WorkRequest.from_object(envelope).etag
        asyncio.run(results.put(etag, b"content", {}))
        assert asyncio.run(results.get(etag)) == b"content"
        assert {path.parent for path in results.folder.rglob("*")} <= {results.folder}

    explore(check, 60)


def test_what_a_person_asks_for(canaries: Path) -> None:
    def check(text: str) -> None:
        settings = Settings(data_dir=canaries, experiment_id=text)
        try:
            place = find_experiment(None, settings)
        except WorkerError:
            return
        assert text == "" or place.path == canaries / text

    explore(check, 60)


def test_the_index_of_stores(canaries: Path) -> None:
    (source := canaries / "r.rds").write_bytes(b"1")
    seen = Fingerprint.of(source)
    (canaries / "stolen-1.1.h5ad").write_text("another file")

    def check(text: str) -> None:
        shelf = Shelf(canaries / ".stores", 1)
        entry = {"size": seen.size, "mtime_ns": seen.mtime_ns, "inode": seen.inode, "key": text}
        shelf.write(shelf.folder / "index.json", json.dumps({str(source.resolve()): entry, text: text}).encode())
        for found in (shelf.known(source), shelf.same_content(source, source.stat().st_size, np.zeros(1, np.int32))):
            assert found is None or found.parent == shelf.folder
        shelf.sources_of(shelf.store_of(StoreName("0" * 64)))
        (canaries / ".stores" / "index.json").unlink()

    explore(check, 60)


def test_entries_are_distinguished_from_heartbeats_and_nothing_else_is_either() -> None:
    found = parse_key(".journal/x1/pod-1/7")
    assert found == EntryKey(ExperimentId("x1"), PodName("pod-1"), 7)
    assert [parse_key(key) for key in (".journal/x1/pod-1/07", ".journal/x1/pod-1/alive/0", ".journal/x1/0")] == [
        None
    ] * 3


# --- the code itself ---

ROOMS = ("gateway/**/*.py", "local/**/*.py", "engine/**/*.py", "formats/**/shelf.py", "formats/**/opening.py")


def checked_modules(root: Path) -> dict[str, Path]:
    package = root / "src" / "cellworker"
    paths = {path for room in ROOMS for path in package.glob(room)}
    paths |= {package / name for name in ("identifiers.py", "settings.py")}
    return {".".join(path.relative_to(root / "src").with_suffix("").parts): path for path in sorted(paths)}


def test_paths_are_made_only_from_constants_and_checked_names(root: Path) -> None:
    """What stands right of a path's slash is a constant, or of a type of `cellworker.identifiers`."""
    modules = checked_modules(root)
    chosen = options.Options()
    chosen.export_types = chosen.preserve_asts = chosen.ignore_errors = chosen.ignore_missing_imports = True
    chosen.follow_imports, chosen.incremental = "skip", False
    chosen.python_version = sys.version_info[:2]
    built = build.build([BuildSource(str(path), name) for name, path in modules.items()], chosen)

    joins = {}
    for expression in built.types:
        if isinstance(expression, nodes.OpExpr) and expression.op == "/":
            left = types.get_proper_type(built.types.get(expression.left))
            if isinstance(left, types.Instance) and left.type.fullname.startswith("pathlib."):
                place = (expression.line, expression.column, expression.end_line, expression.end_column)
                joins[place] = types.get_proper_type(built.types.get(expression.right))

    found, bad = 0, []
    for path in modules.values():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                kind = joins.get((node.lineno, node.col_offset, node.end_lineno, node.end_col_offset))
                if kind is None:
                    continue
                found += 1
                constant = isinstance(node.right, ast.Constant) or (
                    isinstance(node.right, ast.Name) and node.right.id.lstrip("_").isupper()
                )
                if not constant and not is_identifier(kind):
                    bad.append(f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(node)} ({kind})")
    assert bad == [], "make the name an Identifier where it enters"
    assert found > 20, "the paths are found"


def is_identifier(kind: object) -> bool:
    if isinstance(kind, types.UnionType):
        return all(is_identifier(types.get_proper_type(item)) for item in kind.items)
    return isinstance(kind, types.Instance) and any(
        base.fullname == "cellworker.identifiers.Identifier" for base in kind.type.mro
    )


def test_keys_of_the_journals_objects_are_made_only_in_one_place(root: Path) -> None:
    tree = ast.parse(next((root / "src/cellworker/gateway").rglob("journal.py")).read_text("utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("put", "get", "remove", "listing")
        and "folder" in ast.unparse(node.func.value)
    ]
    made = {ast.unparse(call.args[0]) for call in calls}
    assert len(calls) > 8
    assert {
        text for text in made if not text.endswith(".text") and not text.startswith(("home_of(", "buried_key("))
    } == {
        "self._alive_key",
        "ROOT",
    }
    assert "self._alive_key = AliveKey(experiment_id, owner).text" in ast.unparse(tree)
