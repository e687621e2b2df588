"""The alarms and the board that the chart ships: each expression is PromQL about metrics that the gateway serves."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cellworker.errors import ErrorCode
from cellworker.gateway.core.metrics import DONE, GAUGES
from cellworker.gateway.observe.metrics import Metrics
from cellworker.tasks import catalog

FILES = "chart-infra/files"
OF_THE_TARGET = {"namespace", "pod", "container", "job", "instance", "experimentId", "sandboxId"}
"""Labels that Prometheus adds where it finds the pod (`podTargetLabels` of the ServiceMonitor among them)."""

RANGES = {"$__rate_interval": "5m", "$namespace": ".*", "$pod": ".*"}
"""What Grafana fills in."""


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """Every series of the gateway with its labels, after each thing that it counts has happened once."""
    metrics = Metrics(catalog.TASKS)
    metrics.delivered(1)
    metrics.begun(0.1)
    metrics.answered("ListGenes", DONE, 0.1)
    metrics.notified("Heartbeat-x", ok=True)
    metrics.uploaded(1, 0.1)
    metrics.synced(0.1)
    for gauge in GAUGES:
        metrics.follow(gauge, lambda: 1, lane="short" if gauge == "in_flight" else None)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def alarms(root: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((root / FILES / "alarms.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((root / FILES / "board.json").read_text())["panels"]
    return found


def expressions(root: Path) -> Iterator[tuple[str, str]]:
    for rule in alarms(root):
        yield rule["alert"], rule["expr"]
    for panel in panels(root):
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in RANGES.items():
                text = text.replace(name, value)
            yield panel["title"], text


def parts(node: Any) -> Iterator[Any]:
    """Walk a parsed expression."""
    yield node
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if getattr(node, name, None) is not None:
            yield from parts(getattr(node, name))
    for argument in getattr(node, "args", None) or []:
        yield from parts(argument)


def selectors(text: str) -> list[Any]:
    tree = promql_parser.parse(text)
    return [part for part in parts(tree) if isinstance(part, promql_parser.VectorSelector)]


def wrong_names(text: str, served: dict[str, set[str]]) -> list[str]:
    """Series and labels of an expression that nobody serves, and outcomes that no request can have."""
    found = []
    for selector in selectors(text):
        if selector.name not in served:
            found.append(selector.name)
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name not in served[selector.name] | OF_THE_TARGET:
                found.append(f"{selector.name}{{{matcher.name}}}")
            if matcher.name == "outcome":
                found += sorted(set(matcher.value.split("|")) - {DONE, *map(str, ErrorCode)})
    return found


def grouped_by(text: str) -> set[str]:
    """Labels that the expression groups or joins by."""
    labels: set[str] = set()
    for part in parts(promql_parser.parse(text)):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            labels |= set(part.modifier.labels)
    return labels


def test_every_series_and_label_is_served(root: Path, served: dict[str, set[str]]) -> None:
    seen = list(expressions(root))
    assert len(seen) > 20
    assert [(title, wrong) for title, text in seen if (wrong := wrong_names(text, served))] == []


def test_every_label_that_is_grouped_by_exists(root: Path, served: dict[str, set[str]]) -> None:
    for title, text in expressions(root):
        known = OF_THE_TARGET.union(*(served[selector.name] for selector in selectors(text)))
        assert grouped_by(text) <= known, title


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("rate(cellworker_request_total[5m])", ["cellworker_request_total"]),
        ('cellworker_in_flight{line="short"}', ["cellworker_in_flight{line}"]),
        ('cellworker_requests_total{outcome=~"DONE|OUT_OF_MEMORY"}', ["DONE"]),
    ],
)
def test_a_name_that_is_not_served_is_found(text: str, wrong: list[str], served: dict[str, set[str]]) -> None:
    assert wrong_names(text, served) == wrong


def test_the_board_shows_every_metric(root: Path, served: dict[str, set[str]]) -> None:
    shown = {selector.name for title, text in expressions(root) for selector in selectors(text)}
    ours = {name.removesuffix("_bucket") for name in served if name.startswith("cellworker_")}
    families = {name for name in ours if not name.endswith(("_sum", "_count"))}
    assert families <= {name.removesuffix("_bucket") for name in shown}


def test_every_alarm_says_what_it_means_and_is_in_the_handbook(root: Path) -> None:
    page = (root / "docs/operations.md").read_text()
    for rule in alarms(root):
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert f"`{rule['alert']}`" in page, rule["alert"]


def test_no_panels_overlap_and_each_has_a_description(root: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(root):
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert len(panel["description"]) > 10
    assert len({panel["id"] for panel in panels(root)}) == len(panels(root))
