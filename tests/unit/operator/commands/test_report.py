"""The JSON of `octavo why` and `octavo check` keeps its form; what the terminal shows is the same in words."""

import json

from jsonschema import validate
from known import healthy, in_trouble, loaded
from rich.console import Console, RenderableType
from troubles import not_ready

from octavo_operator.commands import checklist, report, view
from octavo_operator.commands.load import load
from octavo_operator.commands.rules import findings
from octavo_operator.commands.trial import Trial
from octavo_runtime.protocol import metrics

TEXT = {"type": "string"}
HEAD = {"schema": TEXT, "namespace": TEXT, "service": TEXT, "time": TEXT, "unread": {"additionalProperties": TEXT}}
WHY = {
    "required": [*HEAD, "ready", "wanted", "figures", "findings"],
    "properties": HEAD
    | {
        "ready": {"type": "integer"},
        "wanted": {"type": "integer"},
        "figures": {"type": ["object", "null"], "required": ["seconds", "running", "waiting", "kv_usage", "statuses"]},
        "findings": {
            "type": "array",
            "items": {
                "required": ["rule", "severity", "summary", "evidence", "advice", "change", "docs"],
                "properties": {
                    "rule": {"pattern": "^[A-Z][A-Za-z]+$"},
                    "severity": {"enum": ["critical", "warning"]},
                    "evidence": {"type": "array", "items": TEXT, "minItems": 1},
                    "change": {"type": ["object", "null"], "required": ["spec"]},
                    "docs": {"pattern": "^docs/day-two.md#[a-z-]+$"},
                },
            },
        },
    },
}
CHECK = {
    "required": [*HEAD, "summary", "items"],
    "properties": HEAD
    | {
        "summary": {"required": ["pass", "warn", "fail", "unknown"], "additionalProperties": {"type": "integer"}},
        "items": {
            "type": "array",
            "items": {
                "required": ["section", "name", "verdict", "evidence", "fix"],
                "properties": {"verdict": {"enum": ["pass", "warn", "fail", "unknown"]}},
            },
        },
    },
}
BUSY = loaded(
    healthy(),
    {
        metrics.REQUESTS_WAITING: 9,
        metrics.KV_CACHE_USAGE_RATIO: 0.8,
        metrics.REQUEST_DURATION: {"600.0": 0, "+Inf": 9},
        metrics.KEY_REQUESTS: {"200": 20},
    },
    {metrics.REQUESTS_WAITING: 1},
)


def shown(what: RenderableType) -> str:
    console = Console(width=80, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_why_as_json() -> None:
    for evidence in (healthy(), BUSY, in_trouble(healthy())):
        document = report.findings(evidence, load(evidence.samples), findings(evidence))
        read = json.loads(json.dumps(document, allow_nan=False))
        validate(read, WHY)
        assert (read["schema"], read["service"]) == ("octavo.why/v1", "chat")
    assert report.findings(BUSY, load(BUSY.samples), [])["figures"]["whole_answer"]["p99"] is None


def test_check_as_json() -> None:
    items = checklist.items(healthy(), _down())
    document = json.loads(json.dumps(report.checklist(healthy(), items), allow_nan=False))
    validate(document, CHECK)
    assert document["schema"] == "octavo.check/v1"
    assert sum(document["summary"].values()) == len(items)


def _down() -> Trial:
    asked = ("models", "completion", "chat", "stream", "unknown model", "invalid", "keyless", "reference")
    return Trial(troubles=dict.fromkeys(asked, "no endpoints available"))


def test_findings_for_people() -> None:
    text = shown(view.findings(BUSY, load(BUSY.samples), findings(BUSY)))
    assert "default/chat  Ready  Serving" in text
    assert "2 of 2 pods answer; over 10 s 4.0 requests/s" in text
    assert "critical  QueueGrows  18 requests wait" in text
    assert "    spec:\n      replicas: 3\n" in text
    assert "docs/day-two.md#latency" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_service_that_is_well_says_so_with_its_figures() -> None:
    text = shown(view.findings(healthy(), load(healthy().samples), []))
    assert "Nothing is wrong." in text
    assert "KV cache 0% full" in text


def test_a_service_that_is_on_its_way_tells_what_it_does() -> None:
    told = "0 of 1 replicas answer; pod chat-1 is loading the model"
    starting = not_ready("Starting", told)
    text = " ".join(shown(view.findings(starting, None, [])).split())
    assert f"Nothing is wrong so far: {told}" in text


def test_the_checklist_for_people() -> None:
    text = shown(view.checklist(healthy(), checklist.items(healthy(), _down())))
    assert "availability\n" in text.replace(" ", "")
    assert "-> spec.endpoint.apiKeysSecret" in text
    assert "fail" in text.splitlines()[-1]
