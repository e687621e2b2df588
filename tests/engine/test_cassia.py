"""CASSIA's process: what it is told, what it may know, what it tells, and how it ends."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cellworker.engine.annotators import cassia
from cellworker.engine.annotators.cassia import annotate, annotator
from cellworker.engine.annotators.language_model import LanguageModel, language_model
from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install
from cellworker.logs import redact
from cellworker.settings import Settings
from cellworker.tasks.context import ClusterQuestion

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from model_endpoint import Endpoint, listening  # noqa: E402

KEY = "sk-not-a-real-key-but-a-secret"
STAND_INS = TESTS / "stand_ins"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process finds the stand-ins."""
    found = cassia.module_path()
    monkeypatch.setattr(cassia, "module_path", lambda: [str(STAND_INS), str(STAND_INS / "light"), *found])


def question(n: int = 2, **more: Any) -> ClusterQuestion:
    clusters = list(range(1, n + 1))
    markers: dict[str, Any] = {
        "p_val": [1e-9] * n, "avg_log2FC": [2.0] * n, "pct.1": [0.9] * n, "pct.2": [0.1] * n,
        "p_val_adj": [1e-6] * n, "cluster": clusters, "gene": [f"GENE{k}" for k in clusters],
    }  # fmt: skip
    words = {"species": "Human", "tissue": "Blood", "additional_info": "two donors", **more}
    return ClusterQuestion(n_clusters=n, markers=markers, **words)


def silent(stage: str, fraction: float | None = None) -> None:
    pass


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def ask(endpoint: Endpoint, scratch: Path) -> Callable[..., list[dict[int, str]]]:
    def ask(asked: ClusterQuestion | None = None, progress: Any = silent, **model: Any) -> list[dict[int, str]]:
        model = {"url": endpoint.url, "model": "some-model", "key": KEY, "timeout_s": 60.0, **model}
        return annotate(LanguageModel(**model), asked or question(), progress, scratch)

    return ask


@pytest.fixture
def refused(ask: Any) -> Callable[..., str]:
    def refused(*arguments: Any, **model: Any) -> str:
        with pytest.raises(WorkerError) as told:
            ask(*arguments, **model)
        assert told.value.code is ErrorCode.R_WORKER_CASSIA_ERROR
        assert KEY not in told.value.message
        return str(told.value.message)

    return refused


def test_the_model_gives_three_groupings(ask, endpoint: Endpoint, scratch: Path) -> None:
    assert ask() == [
        {1: "B cells (broader)", 2: "Monocytes (broader)"},
        {1: "B cells (intermediate)", 2: "Monocytes (intermediate)"},
        {1: "B cells (standardize)", 2: "Monocytes (standardize)"},
    ]
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    assert {asked["model"] for asked in endpoint.asked} == {"some-model"}
    assert list(scratch.iterdir()) == []


def test_what_the_user_adds_reaches_the_model(ask, endpoint: Endpoint) -> None:
    ask(question(additional_info="from two healthy donors"))
    said = [asked["messages"][0]["content"] for asked in endpoint.asked]
    assert all("from two healthy donors" in text for text in said)
    assert all("Human" in text and "Blood" in text for text in said)


def test_progress_is_reported_cluster_by_cluster_in_the_originals_words(ask) -> None:
    told: list[tuple[str, float | None]] = []
    ask(question(3), lambda stage, fraction=None: told.append((stage, fraction)))
    assert list(dict.fromkeys(told)) == [
        ("Running CASSIA annotation (this can take several minutes)", None),
        ("CASSIA Batch Analysis (1/3)", 1 / 3),
        ("CASSIA Batch Analysis (2/3)", 2 / 3),
        ("CASSIA Batch Analysis (3/3)", 1.0),
        ("Annotation Merging (1/3)", 1 / 3),
        ("Annotation Merging (2/3)", 2 / 3),
        ("Annotation Merging (3/3)", 1.0),
    ]


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (401, "127.0.0.1 refused the key: check CASSIA_KEY"),
        (403, "127.0.0.1 refused the key: check CASSIA_KEY"),
        (404, "does not know the model 'some-model': check CASSIA_MODEL"),
        (429, "HTTP 429): try again later"),
        (500, "HTTP 500): try again later"),
        (400, "HTTP 400): check CASSIA_MODEL"),
    ],
)
def test_an_endpoint_that_fails_is_an_error_that_says_what_to_do(refused, endpoint, status: int, meaning: str) -> None:
    endpoint.status = status
    assert meaning in refused()


def test_answers_that_cannot_be_read_are_an_error(refused, endpoint: Endpoint) -> None:
    endpoint.content = "I would rather not say."
    assert "gave answers that CASSIA cannot read" in refused()
    endpoint.content, endpoint.body = None, b"<html>"
    assert "gave answers that CASSIA cannot read" in refused()


def test_a_grouping_that_fails_is_an_error(refused, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = endpoint.reply
    monkeypatch.setattr(
        endpoint, "reply", lambda asked: "?" if "intermediate" in str(asked) else reply(asked), raising=True
    )
    assert "gave answers that CASSIA cannot read" in refused()


def test_clusters_without_an_answer_are_left_out(ask, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = endpoint.reply
    monkeypatch.setattr(endpoint, "reply", lambda asked: "?" if "GENE2" in str(asked) else reply(asked))
    assert ask()[0] == {1: "B cells (broader)"}


def test_an_endpoint_that_is_silent_or_not_there_is_an_error(refused, endpoint: Endpoint) -> None:
    assert "127.0.0.1 cannot be reached: check CASSIA_URL" in refused(url="http://127.0.0.1:9/v1")
    endpoint.hangs = True
    assert "did not give all answers within 0.5 seconds (CASSIA_TIMEOUT_S)" in refused(timeout_s=0.5)


def children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_request_that_is_cancelled_ends_the_process_at_once(ask, endpoint: Endpoint, scratch: Path) -> None:
    endpoint.hangs = True
    before = children()

    def cancelled(stage: str, fraction: float | None = None) -> None:
        if endpoint.arrived.is_set():
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask(progress=cancelled)
    assert time.monotonic() - started < 30
    assert children() == before
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_process_knows_only_what_it_needs(
    ask, endpoint: Endpoint, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of somebody else")
    monkeypatch.setenv("CASSIA_KEY", KEY)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    seen: dict[str, bytes] = {}
    before = children()

    def look(stage: str, fraction: float | None = None) -> None:
        if endpoint.asked and not seen:
            (child,) = set(children()) - set(before)
            for name in ("environ", "cmdline"):
                with contextlib.suppress(PermissionError):  # hidden from all but root
                    seen[name] = Path(f"/proc/{child}/{name}").read_bytes()
            (folder,) = scratch.iterdir()
            assert Path(f"/proc/{child}/cwd").resolve() == folder
            endpoint.silent.set()

    endpoint.hangs = True  # until it was looked at
    with pytest.raises(WorkerError):
        ask(progress=look)
    assert b"HTTPS_PROXY" in seen["environ"] if os.geteuid() == 0 else "environ" not in seen
    for content in seen.values():
        assert KEY.encode() not in content
        assert b"AWS_" not in content
        assert b"CASSIA_KEY" not in content


def test_the_process_calls_no_other_address(ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "CASSIA.py").write_text(
        "import socket\n"
        "class BatchProgressTracker:\n"
        "    def complete_task(self): ...\n"
        "def runCASSIA_batch(**_):\n"
        "    socket.create_connection(('localhost', 9))\n"
    )
    monkeypatch.setattr(cassia, "module_path", lambda: [str(tmp_path), str(STAND_INS / "light"), *sys.path])
    with pytest.raises(WorkerError, match="only the language model may be asked"):
        ask()


def test_a_missing_package_is_named_with_the_way_to_get_it(refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cassia, "module_path", lambda: [path for path in sys.path if "site-packages" not in path])
    assert "'CASSIA' is missing" in (told := refused())
    assert how_to_install("cassia") in told


@pytest.mark.parametrize("change", [{"reachable": False}, {"url": "http://127.0.0.1:9/v1"}])
def test_a_person_who_looks_at_cells_reads_what_to_do_instead(refused, change: dict[str, Any]) -> None:
    told = refused(**change)
    assert told.startswith(
        "The clusters could not be annotated: CASSIA asks a language model, and none is set up here. "
        "ScType names cell types without one; or ask those who run this worker"
    )


def test_transient_errors_are_marked_for_a_retry(refused, endpoint: Endpoint) -> None:
    endpoint.status = 429
    told = refused()
    assert "try again later" in told
    assert "set up" not in told


def test_a_process_that_dies_is_an_error_that_cites_it_without_the_key(
    refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "CASSIA.py").write_text("import os, sys\nprint('my key is', '" + KEY + "', flush=True)\nos._exit(3)\n")
    monkeypatch.setattr(cassia, "module_path", lambda: [str(tmp_path), *sys.path])
    assert refused() == "The clusters could not be annotated: CASSIA failed (my key is [key])."


def test_bedrock_is_asked_with_a_token_of_the_workers_own_identity(
    ask, refused, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "the worker")
    (tmp_path / "aws_bedrock_token_generator.py").write_text(
        "import os\n"
        "def provide_token(region, expiry):\n"
        "    assert expiry.total_seconds() == 3600\n"
        "    assert os.environ['AWS_SHARED_CREDENTIALS_FILE'].endswith('.aws/credentials')\n"
        "    return f\"bedrock-api-key-{region}-{os.environ['AWS_ROLE_ARN']}\"\n"
    )
    monkeypatch.setattr(
        cassia, "module_path", lambda: [str(tmp_path), str(STAND_INS), str(STAND_INS / "light"), *sys.path]
    )
    monkeypatch.setattr(LanguageModel, "bedrock_region", property(lambda self: "" if self.key else "eu-west-1"))
    ask(key="")
    assert set(endpoint.keys) == {"Bearer bedrock-api-key-eu-west-1-the worker"}
    endpoint.status = 403
    assert "it needs bedrock:CallWithBearerToken" in refused(key="")
    monkeypatch.delenv("AWS_ROLE_ARN")
    told = refused(key="")
    assert told.startswith(
        "Could not mint a Bedrock bearer token from the worker's IAM credentials (region eu-west-1)."
    )


def test_the_default_is_bedrock_in_the_workers_region() -> None:
    found = language_model(Settings(aws_default_region="eu-west-1"))
    assert found.url == "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1"
    assert (found.model, found.bedrock_region) == ("qwen.qwen3-next-80b-a3b", "eu-west-1")
    assert (
        language_model(Settings(aws_region="us-west-2", aws_default_region="eu-west-1")).bedrock_region == "us-west-2"
    )
    assert language_model(Settings()).bedrock_region == "us-east-1"
    assert language_model(Settings(cassia_key=KEY)).bedrock_region == ""
    own = language_model(Settings(cassia_url="https://models.example/v1", cassia_model="m", cassia_timeout_s=5))
    assert (own.url, own.model, own.bedrock_region, own.timeout_s) == ("https://models.example/v1", "m", "", 5)


@pytest.mark.parametrize(
    "url", ["models.example", "ftp://models.example/v1", "https://me:secret@models.example", "http://["]
)
def test_an_address_that_is_none_is_refused_before_anything_is_asked(refused, url: str) -> None:
    assert "CASSIA_URL" in (told := refused(url=url))
    assert "secret" not in told


def test_a_key_is_never_shown() -> None:
    model = language_model(Settings(cassia_url="https://models.example/v1", cassia_key=KEY))
    assert KEY not in repr(model)
    assert KEY not in repr(annotator(Settings(cassia_key=KEY)))
    assert "QUJD" not in redact("asked with bedrock-api-key-QUJD and ABSKQUJDQUJDQUJDQUJDQUJD")
