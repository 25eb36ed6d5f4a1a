"""The dashboard for Grafana, and the alerting rules, are about metrics that exist, by labels that they have."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "pg-semantic.json").read_text())
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
OF_PROMETHEUS = {"job", "instance", "le"}

_METRIC = re.compile(r"\b(?:pg_semantic|process)_\w+")
_LABELS = re.compile(r"\b(?:by|on) \(([\w, ]+)\)|(\w+)(?==~?\")|\{\{(\w+)\}\}")
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", re.MULTILINE)


def known() -> dict[str, set[str]]:
    """The labels of each series on the page: a histogram has three."""
    found: dict[str, set[str]] = {}
    for name, kind, labels in _ROW.findall(PAGE):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + suffix: set(re.findall(r"\w+", labels)) for suffix in suffixes}
    metrics = CollectorRegistry()
    ProcessCollector(registry=metrics)
    return found | {metric.name: set() for metric in metrics.collect()}


KNOWN = known()


@pytest.mark.parametrize(("title", "target"), QUERIES)
def test_a_panel_shows_metrics_and_labels_that_are_on_the_page(title: str, target: dict[str, Any]) -> None:
    names = set(_METRIC.findall(target["expr"]))
    assert names
    assert names <= KNOWN.keys(), title
    labels = set.union(*(KNOWN[name] for name in names)) | OF_PROMETHEUS
    for found in _LABELS.findall(target["expr"] + target["legendFormat"]):
        assert set(re.findall(r"\w+", "".join(found))) <= labels, title


@pytest.mark.parametrize(("title", "target"), QUERIES)
def test_a_counter_is_shown_as_a_rate(title: str, target: dict[str, Any]) -> None:
    expression = target["expr"]
    for name in re.findall(r"\b\w+_(?:total|bucket|sum|count)\b", expression):
        assert re.search(rf"\b(?:rate|increase)\({name}(?:\{{[^}}]*\}})?\[\$__rate_interval\]\)", expression), title
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


def test_the_variables_are_those_of_metrics_and_every_panel_has_the_chosen_data_source() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) - {"__rate_interval"}
    assert used == names
    [index] = [variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    assert set(_METRIC.findall(index["definition"])) <= KNOWN.keys()
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}


def test_panels_have_numbers_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for one, other in itertools.combinations((panel["gridPos"] for panel in DASHBOARD["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    assert all(panel["description"] for panel in PANELS)


def test_the_alerting_rules_watch_metrics_that_are_on_the_page() -> None:
    rules = re.findall(r"expr: (.+)", (ROOT / "docs" / "how-to" / "monitor.md").read_text())
    assert len(rules) > 5
    assert {name for rule in rules for name in _METRIC.findall(rule)} <= KNOWN.keys()


def test_most_metrics_of_workers_are_shown() -> None:
    shown = {name for _, target in QUERIES for name in _METRIC.findall(target["expr"])}
    missing = {name for name in KNOWN if name.startswith("pg_semantic_worker_")} - shown
    assert missing == {
        "pg_semantic_worker_batches_total",
        "pg_semantic_worker_generations_served",
        "pg_semantic_worker_jobs_claimed_total",
        "pg_semantic_worker_vector_index_age_seconds",
        "pg_semantic_worker_vector_index_bytes",  # these three come from the service, too
        "pg_semantic_worker_vector_index_drift_ratio",
    }
