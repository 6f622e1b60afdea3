"""Is it watched?"""

from collections.abc import Mapping

from octavo_operator.api.label_selector import selects
from octavo_operator.commands.checklist.outcome import Check, Outcome, failed, passed, unknown, warned
from octavo_operator.commands.checklist.performance import unmeasured
from octavo_operator.commands.evidence import DASHBOARDS, Evidence, Object
from octavo_operator.commands.load import Load
from octavo_operator.commands.trial import Trial
from octavo_operator.kinds import SERVICE_LABEL


def _metrics(evidence: Evidence, load: Load | None, _trial: Trial) -> Outcome:
    if load is None:
        return unmeasured(evidence)
    return passed(f"{load.pods} of {len(evidence.pods)} pods tell their metrics")


def _scraped(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    labels = _pod_labels(evidence)
    monitors = [
        f"{kind} {each['metadata']['name']}"
        for kind in ("PodMonitor", "ServiceMonitor")
        for each in evidence.lists.get(kind, ())
        if _reaches(each, evidence.namespace) and selects(each["spec"].get("selector", {}), labels)
    ]
    if monitors:
        return passed(f"{', '.join(monitors)} selects the pods")
    annotations = _template(evidence).get("metadata", {}).get("annotations") or {}
    fix = "run a Prometheus that goes by annotations, or have the chart make its PodMonitors: monitoring.enabled: true"
    if unread := elsewhere(evidence, "PodMonitor"):
        return unknown(f"PodMonitors: {unread}", fix)
    if annotations.get("prometheus.io/scrape") == "true":
        return warned("annotations prometheus.io/* alone: nothing in the cluster says whether they are read", fix)
    return failed("no PodMonitor, no ServiceMonitor, no annotation", fix)


def _reaches(monitor: Object, namespace: str) -> bool:
    """Whether a monitor looks into a namespace."""
    selector = monitor["spec"].get("namespaceSelector") or {}
    among = selector.get("matchNames") or [monitor["metadata"].get("namespace", namespace)]
    return bool(selector.get("any")) or namespace in among


def elsewhere(evidence: Evidence, kind: str) -> str:
    """Why what watches services was not looked for everywhere; empty where it was."""
    return evidence.unread.get(kind) or evidence.unread.get(f"{kind} of other namespaces", "")


def _template(evidence: Evidence) -> Object:
    return evidence.template or {}


def _pod_labels(evidence: Evidence) -> Mapping[str, str]:
    return _template(evidence).get("metadata", {}).get("labels") or {SERVICE_LABEL: evidence.name}


def _dashboard(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if "ConfigMap" in evidence.owned:
        return passed(f"ConfigMap {evidence.name}-dashboard")
    boards = evidence.lists.get(DASHBOARDS, ())
    known = [each["metadata"]["name"] for each in boards if "octavo_" in str(each.get("data"))]
    if known:
        return passed(f"ConfigMap {', '.join(known)}, of all services")
    if unread := elsewhere(evidence, DASHBOARDS):
        return unknown(f"ConfigMaps: {unread}", "look for the chart's dashboards in Grafana")
    return warned("no dashboard", "docs/monitoring.md; of this service alone: spec.observability.dashboard: true")


def _alerts(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    """Alerts of latency, errors and load: any rule on the engine's metrics that does not name another service."""
    unread = elsewhere(evidence, "PrometheusRule")
    if "PrometheusRule" not in evidence.lists and not unread:
        fix = "install the Prometheus operator, or give your Prometheus alerting rules on octavo_* metrics yourself"
        return warned("the cluster does not know PrometheusRule", fix)
    rules = [
        (each["metadata"]["name"], _alerting(each))
        for each in evidence.lists.get("PrometheusRule", ())
        if _concerns(each, evidence)
    ]
    about = [(name, alerts) for name, alerts in rules if alerts]
    if about:
        return passed(", ".join(f"PrometheusRule {name}: {len(alerts)} alerts" for name, alerts in about))
    if unread:
        return unknown(f"PrometheusRules: {unread}")
    return warned("no alert on an octavo_* metric", "the chart brings alerts: docs/monitoring.md")


def _concerns(rule: Object, evidence: Evidence) -> bool:
    """Whether a rule is not labelled as another service's."""
    labels = rule["metadata"].get("labels") or {}
    return bool(labels.get(SERVICE_LABEL, evidence.name) == evidence.name)


def _alerting(rule: Object) -> list[str]:
    found = [each for group in rule.get("spec", {}).get("groups", []) for each in group.get("rules", [])]
    return [each["alert"] for each in found if "alert" in each and "octavo" in str(each.get("expr", ""))]


def _logs(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    told = evidence.arguments.get("--log-format")
    if told == "json":
        return passed("the engine logs one JSON object a line, with request ids; what collects a node's logs reads it")
    if not evidence.arguments:
        return unknown(evidence.untold)
    return warned(f"--log-format {told or 'console'}", "take the argument out of podTemplate")


ITEMS: dict[str, Check] = {
    "metrics": _metrics,
    "scraped": _scraped,
    "dashboard": _dashboard,
    "alerts": _alerts,
    "logs": _logs,
}
