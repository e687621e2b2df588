"""Events: names, heartbeats and notices as the platform's UI matches on them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.protocol import events
from cellworker.protocol.envelope import WorkRequest
from cellworker.protocol.events import Status
from cellworker.tasks.catalog import TASKS

TITLES = {
    "GetEmbedding": "Embedding",
    "ListGenes": "List Genes",
    "DifferentialExpression": "Differential Expression",
    "BatchDifferentialExpression": "Batch Differential Expression",
    "GeneExpression": "Gene Expression",
    "GetBackgroundExpressedGenes": "Background Expressed Genes",
    "ClusterCells": "Cluster Cells",
    "DotPlot": "Dot Plot",
    "GetDoubletScore": "Doublet Score",
    "GetMitochondrialContent": "Mitochondrial Content",
    "GetNGenes": "N Genes",
    "GetNUmis": "N Umis",
    "MarkerHeatmap": "Marker Heatmap",
    "GetTrajectoryAnalysisStartingNodes": "Trajectory Analysis Starting Nodes",
    "GetTrajectoryAnalysisPseudoTime": "Trajectory Analysis Pseudo Time",
    "GetExpressionCellSets": "Expression Cell Sets",
    "GetNormalizedExpression": "Normalized Expression",
    "ScTypeAnnotate": "Sc Type Annotate",
    "CASSIAAnnotate": "CASSIA Annotate",
    "CellCycleScoring": "Cell Cycle Scoring",
    "DownloadAnnotSeuratObject": "Download Annot Seurat Object",
}


def request(**changes: Any) -> WorkRequest:
    envelope = {
        "signedUrl": "https://results.example/e1",
        "ETag": "e1",
        "Authorization": "Bearer hidden-token",
        "experimentId": "x1",
        "timeout": "2099-01-01T00:00:00Z",
        "body": {"name": "ListGenes"},
        "requestProps": {},
    }
    return WorkRequest.from_object({**envelope, **changes})


def test_every_task_has_the_title_that_users_know() -> None:
    assert {name: events.task_title(name) for name in TASKS if name in TITLES} == TITLES


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (Status.STARTED, "STARTED_TASK", "Working on the requested task Embedding"),
        (Status.DOWNLOADING, "DOWNLOAD_EXPERIMENT", "Accessing the Seurat object for your analysis"),
        (Status.LOADING, "LOAD_TO_MEMORY", "Accessing the Seurat object for your analysis"),
        (Status.COMPRESSING, "COMPRESSING_DATA", "Compressing the results for the requested task Embedding"),
        (Status.UPLOADING, "UPLOADING_DATA", "Finalizing results for the requested task Embedding"),
        (Status.FINISHED, "FINISHED_TASK", "Displaying results for the requested task Embedding"),
    ],
)
def test_heartbeats_have_the_contracts_words_and_order(status: Status, code: str, text: str) -> None:
    assert list(events.heartbeat(status, "GetEmbedding").items()) == [
        ("type", "WorkResponse"),
        ("status_code", code),
        ("user_message", text),
    ]


def test_events_are_named_after_what_they_are_about() -> None:
    assert events.heartbeat_event("x1") == "Heartbeat-x1"
    assert events.result_event("e1") == "WorkResponse-e1"
    assert events.experiment_event("x1") == "ExperimentUpdates-x1"


@pytest.mark.parametrize(("fraction", "percent"), [(None, None), (0, 0), (0.254, 25), (1, 100), (1.7, 100), (-1, 0)])
def test_a_tick_has_a_whole_percentage_or_null(fraction: float | None, percent: int | None) -> None:
    tick = events.progress_heartbeat("DotPlot", "Scaling", fraction)
    assert tick == {
        "type": "WorkResponse",
        "status_code": "STARTED_TASK",
        "user_message": "Scaling",
        "progress_percent": percent,
    }
    assert tick["progress_percent"] is None or type(tick["progress_percent"]) is int


def test_a_tick_without_a_stage_says_what_is_worked_on() -> None:
    assert events.progress_heartbeat("DotPlot")["user_message"] == "Working on the requested task Dot Plot"


def test_a_success_gives_the_envelope_back_without_the_token() -> None:
    asked = request()
    notice = events.success_notice(asked, cacheable=True)
    assert notice["response"] == {"cacheable": True, "error": False, "signedUrl": "https://results.example/e1"}
    assert notice["type"] == "WorkResponse"
    assert notice["request"] == {key: value for key, value in asked.envelope.items() if key != "Authorization"}


def test_an_error_is_reported_in_the_words_of_the_ui() -> None:
    error = WorkerError(ErrorCode.R_WORKER_EMPTY_CELL_SET, "No cells match requested filters.")
    notice = events.error_notice(request(), error)
    assert notice["response"] == {
        "cacheable": False,
        "error": True,
        "signedUrl": "https://results.example/e1",
        "errorCode": "R_WORKER_EMPTY_CELL_SET",
        "userMessage": "No cells match requested filters.",
    }


def test_an_error_that_quotes_the_token_does_not_tell_it() -> None:
    error = WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, "401 for Bearer hidden-token")
    assert "hidden" not in json.dumps(events.error_notice(request(), error))


def test_an_envelope_without_a_signed_url_gets_null() -> None:
    asked = request(signedUrl=None)
    assert events.success_notice(asked, cacheable=False)["response"]["signedUrl"] is None
    assert asked.timeout < datetime.max.replace(tzinfo=UTC)
