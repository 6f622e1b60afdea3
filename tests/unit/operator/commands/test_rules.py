"""Each rule of `octavo why` finds its trouble, and nothing is found in a service that is well."""

import copy
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from known import healthy, in_trouble, loaded
from troubles import (
    CASES,
    CHATTY,
    GPU,
    RUNNING,
    USAGE,
    UTILISED,
    WAITING,
    abandoned,
    autoscaled,
    ended,
    loading,
    not_ready,
    refused,
    stalled,
)

from octavo_operator import api
from octavo_operator.commands.evidence import Evidence, Log
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.rules import findings

PAGE = Path(__file__).parents[4] / "docs" / "day-two.md"


def found(evidence: Evidence, rule: str) -> Finding:
    by_rule = {finding.rule: finding for finding in findings(evidence)}
    assert rule in by_rule, f"only {sorted(by_rule)}"
    return by_rule[rule]


@pytest.mark.parametrize("case", CASES)
def test_a_trouble_is_found_with_its_numbers_and_the_change_to_make(case: str) -> None:
    evidence, rule, words, change = CASES[case]
    finding = found(evidence, rule)
    told = "\n".join([finding.summary, *finding.evidence])
    assert [word for word in words if word not in told] == [], told
    assert dict(finding.change) == (change or {})
    assert finding.advice


def test_what_is_refused_is_not_said_to_stand_too() -> None:
    evidence = stalled()
    body = not_ready("PodsRefused", "the API server refuses pods: exceeded quota").body
    assert [finding.rule for finding in findings(replace(evidence, body=body))] == ["NotCarriedOut"]


def test_an_image_may_be_on_its_way_where_events_cannot_be_read() -> None:
    creating = in_trouble(healthy(), state={"waiting": {"reason": "ContainerCreating"}})
    now = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
    assert "StandsStill" in {finding.rule for finding in findings(replace(creating, now=now))}
    unread = replace(creating, now=now, unread={"Event": "missing right: list events"})
    assert "StandsStill" not in {finding.rule for finding in findings(unread)}


@pytest.mark.parametrize("case", [case for case, (_, _, _, change) in CASES.items() if change])
def test_the_change_is_yaml_that_the_service_may_be_given(case: str) -> None:
    evidence, rule, _, _ = CASES[case]
    patch = yaml.safe_load(found(evidence, rule).patch)
    assert patch.keys() == {"spec"}
    changed = merged(evidence.body, patch)
    assert api.parse(changed).spec != api.parse(evidence.body).spec


def merged(into: Any, patch: Any) -> Any:
    """As `kubectl patch --type=merge` does."""
    if not isinstance(patch, dict) or not isinstance(into, dict):
        return patch
    return into | {key: merged(into.get(key), value) for key, value in patch.items()}


@pytest.mark.parametrize(
    "evidence",
    [
        healthy(),
        healthy(**GPU),
        loaded(healthy(**GPU), {RUNNING: 20, USAGE: 0.5, UTILISED: {"0": 0.95}} | refused()),
        loaded(healthy(), refused(http_400=0, http_429=0)),
        loaded(healthy(), {WAITING: 2, RUNNING: 64}),
        autoscaled("Starting"),
        autoscaled("NoMetric", since="2026-01-01T11:59:00Z"),
        loading("2026-01-01T11:58:00Z"),
        not_ready("Starting", "pods are being created"),
        abandoned(suspend=True),
        replace(abandoned(), unread={"Deployment": "missing right: get deployments.apps"}),
        replace(abandoned(), now=datetime(2026, 1, 1, 10, 0, 30, tzinfo=UTC)),
    ],
)
def test_nothing_is_found_in_a_service_that_is_well_or_on_its_way(evidence: Evidence) -> None:
    assert findings(evidence) == []


def test_an_invalid_spec_is_told_and_ends_no_rule() -> None:
    evidence = replace(not_ready("InvalidSpec", "spec.replicas must be at least 0, got -1"), service=None)
    assert [finding.rule for finding in findings(evidence)] == ["NotCarriedOut"]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [({}, 1), ({"replicas": 3}, 3), ({"autoscaling": {"minReplicas": 2}}, 2), ({"suspend": True}, 0)],
)
def test_what_is_wanted_is_known_where_nothing_runs(spec: dict[str, Any], wanted: int) -> None:
    evidence = healthy()
    body = evidence.body | {"spec": {"model": {"uri": "builtin://smollm2"}} | spec}
    assert replace(evidence, body=body, owned={}).wanted == wanted


def test_a_deletion_is_told_alone() -> None:
    evidence, *_ = CASES["a deletion that a finalizer holds"]
    body = copy.deepcopy(evidence.body)
    body["metadata"]["generation"] += 1
    assert [finding.rule for finding in findings(replace(evidence, body=body))] == ["BeingDeleted"]


def test_a_queue_that_stands_still_is_found() -> None:
    evidence = loaded(healthy(), {WAITING: 9, USAGE: 0.9}, before={WAITING: 9})
    assert [finding.rule for finding in findings(evidence)] == ["QueueGrows"]


def test_a_trouble_is_told_once() -> None:
    evidence, *_ = CASES["the GPU's memory is used up"]
    assert [finding.rule for finding in findings(evidence)] == ["GpuOutOfMemory"]
    evidence, *_ = CASES["killed for want of memory"]
    assert [finding.rule for finding in findings(evidence)] == ["PodOutOfMemory"]
    for case in (case for case, (_, rule, _, _) in CASES.items() if rule == "StandsStill"):
        assert [finding.rule for finding in findings(CASES[case][0])] == ["StandsStill"], case


def test_pods_that_may_not_be_read_are_not_said_to_be_missing() -> None:
    evidence, *_ = CASES["a rollout past its deadline"]
    assert "StandsStill" in [finding.rule for finding in findings(evidence)]
    unread = replace(evidence, pods=[], samples={}, unread={"Pod": "missing right: list pods"})
    assert "StandsStill" not in [finding.rule for finding in findings(unread)]


def test_who_gave_a_token_that_was_refused_is_not_told_to_give_one() -> None:
    words = "model: no permission to read a/b (HTTP 401); the token that was given was refused: accept the terms"
    finding = found(in_trouble(healthy(model={"uri": "hf://a/b"}), **ended(words)), "NoAccessToModel")
    assert "put a valid one into the Secret" in finding.advice
    assert not finding.change


def test_the_engine_s_log_says_nothing_of_another_container() -> None:
    evidence = in_trouble(healthy(), Log("architecture must be one of x, got y\n"))
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    sidecar = {"name": "shipper", "image": "s:1", "restartCount": 3, "state": waiting}
    sidecar["lastState"] = {"terminated": {"exitCode": 1}}
    evidence.pods[0]["status"]["containerStatuses"].append(sidecar)
    finding = found(evidence, "PodInTrouble")
    assert "architecture" not in "\n".join([*finding.evidence, finding.advice])


@pytest.mark.parametrize(
    ("memory", "cache"), [("64Mi", None), ("1Gi", None), ("1500M", "16Mi"), ("1Gi", "512Mi"), ("64Gi", None)]
)
def test_a_larger_cache_leaves_the_pod_its_margin(memory: str, cache: str | None) -> None:
    engine = {"kvCacheMemory": cache} if cache else {}
    evidence = loaded(healthy(engine=engine, resources={"memory": memory}), {USAGE: 0.97})
    patch = yaml.safe_load(found(evidence, "KvCacheFull").patch)
    assert api.parse(merged(evidence.body, patch)).spec != api.parse(evidence.body).spec


def test_what_is_critical_comes_first() -> None:
    evidence = loaded(healthy(**CHATTY), refused(http_500=20, http_429=5))
    assert [finding.rule for finding in findings(evidence)] == ["RequestsFail", "RateLimited", "DebugLog"]


def test_every_finding_leads_to_a_section_of_the_page() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(), re.M)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    missing = {finding.more for evidence, *_ in CASES.values() for finding in findings(evidence)}
    assert {more for more in missing if more.partition("#")[2] not in anchors} == set()


def test_the_page_names_every_rule() -> None:
    page = PAGE.read_text()
    assert {rule for _, rule, _, _ in CASES.values() if f"`{rule}`" not in page} == set()
