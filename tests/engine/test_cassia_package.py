"""The package `cassia` itself, the whole way against an endpoint on this machine (`make test-cassia`)."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from cellworker.engine.annotators.cassia import annotate
from cellworker.engine.annotators.language_model import LanguageModel
from cellworker.errors import WorkerError
from cellworker.tasks.annotator import ClusterQuestion

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from model_endpoint import listening  # noqa: E402

pytestmark = pytest.mark.skipif(find_spec("CASSIA") is None, reason="needs the extra cassia: make test-cassia")

KEY = "sk-not-a-real-key-but-a-secret"


def question(prefix: str) -> ClusterQuestion:
    rows = [(cluster, gene) for cluster in (1, 2, 3) for gene in range(4)]
    n = len(rows)
    return ClusterQuestion(
        species="Human",
        tissue="Blood",
        additional_info="from two healthy donors",
        n_clusters=3,
        markers={
            "p_val": [1e-9] * n, "avg_log2FC": [2.0] * n, "pct.1": [0.9] * n, "pct.2": [0.1] * n,
            "p_val_adj": [1e-6] * n, "cluster": [cluster for cluster, _ in rows],
            "gene": [f"{prefix}{100 * cluster + gene}" for cluster, gene in rows],
        },
    )  # fmt: skip


# Ensembl's ids: the package would ask public services about them.
@pytest.mark.parametrize("prefix", ["GENE", "ENSG00000111"])
def test_it_annotates(prefix: str, tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    with listening() as endpoint:
        got = annotate(
            LanguageModel(endpoint.url, "some-model", KEY, 300.0), question(prefix),
            lambda stage, fraction=None: told.append((stage, fraction)), tmp_path,
        )  # fmt: skip
    assert len(got) == 3
    assert [sorted(level) for level in got] == [[1, 2, 3]] * 3
    if prefix == "GENE":
        assert got[0] == {1: "B cells (broader)", 2: "Monocytes (broader)", 3: "T cells (broader)"}
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    assert "from two healthy donors" in str(endpoint.asked)
    assert {("CASSIA Batch Analysis (3/3)", 1.0), ("Annotation Merging (3/3)", 1.0)} < set(told)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("cassia-")]


@pytest.mark.parametrize(
    ("status", "meaning"), [(401, "refused the key"), (404, "does not know the model"), (429, "HTTP 429")]
)
def test_it_fails_in_words(status: int, meaning: str, tmp_path: Path) -> None:
    with listening() as endpoint:
        endpoint.status = status
        with pytest.raises(WorkerError, match=meaning) as told:
            annotate(
                LanguageModel(endpoint.url, "some-model", KEY, 300.0), question("GENE"),
                lambda stage, fraction=None: None, tmp_path,
            )  # fmt: skip
    assert KEY not in told.value.message


def test_its_answers_may_be_nonsense(tmp_path: Path) -> None:
    with listening() as endpoint:
        endpoint.content = "I would rather not say."
        with pytest.raises(WorkerError, match="gave answers that CASSIA cannot read"):
            annotate(
                LanguageModel(endpoint.url, "some-model", KEY, 300.0), question("GENE"),
                lambda stage, fraction=None: None, tmp_path,
            )  # fmt: skip


def test_a_token_for_bedrock_is_a_signed_address(monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    from cellworker.engine.annotators.cassia_child import bedrock_token

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    token = bedrock_token("eu-west-1")
    assert token.startswith("bedrock-api-key-")
    signed = base64.b64decode(token.removeprefix("bedrock-api-key-")).decode()
    for part in ("bedrock.amazonaws.com/?", "Action=CallWithBearerToken", "eu-west-1%2Fbedrock", "X-Amz-Expires=3600"):
        assert part in signed
