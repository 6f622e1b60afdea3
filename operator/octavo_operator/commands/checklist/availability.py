"""Does it go on when a pod or a node goes?"""

from octavo_operator.commands.checklist.outcome import Check, Outcome, failed, not_parsed, passed, unknown, warned
from octavo_operator.commands.checklist.statement import stated
from octavo_operator.commands.evidence import Evidence, container
from octavo_operator.commands.load import Load, duration
from octavo_operator.commands.trial import Trial
from octavo_operator.resources import workload
from octavo_runtime.config.units import parse_duration

_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def _replicas(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    told = f"{len(evidence.ready)} of {evidence.wanted} pods answer"
    if evidence.template is None and evidence.unread.keys() & set(workload.KINDS):
        return unknown(evidence.untold)
    if not evidence.ready or len(evidence.ready) < evidence.wanted:
        return failed(told, "`octavo why` says what keeps the others from answering")
    if evidence.wanted < 2:
        autoscaled = evidence.service is not None and evidence.service.spec.autoscaling is not None
        field = "spec.autoscaling.minReplicas" if autoscaled else "spec.replicas"
        return warned(told, f"{field}: 2, so that one may go")
    return passed(told)


def _balanced(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    service = evidence.owned.get("Service")
    for kind in ("Service", "Pod"):
        if kind in evidence.unread:
            return unknown(evidence.unread[kind])
    if service is None:
        return failed(f"there is no Service {evidence.name}", "`octavo why` says why")
    what = f"Service {evidence.name} ({service['spec'].get('type')}) leads to"
    if not evidence.ready:
        return failed(f"{what} no pod, since none answers", "`octavo why` says what keeps them from answering")
    selector = service["spec"].get("selector") or {}
    led = [pod for pod in evidence.ready if selector and selector.items() <= pod["metadata"]["labels"].items()]
    if len(led) < len(evidence.ready):
        said = ",".join(f"{key}={value}" for key, value in selector.items()) or "none"
        told = f"{what} {len(led) or 'none'} of the {len(evidence.ready)} pods that answer: its spec.selector is {said}"
        return failed(told, "the operator writes the selector: see that it runs, and serves this namespace")
    return passed(f"{what} {len(led)} pods")


def _disruptions(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    budget = evidence.owned.get("PodDisruptionBudget")
    if budget is None:
        if "PodDisruptionBudget" in evidence.unread:
            return unknown(evidence.unread["PodDisruptionBudget"])
        return failed("there is no PodDisruptionBudget", "`octavo why` says what the operator met")
    allowed = budget.get("status", {}).get("disruptionsAllowed")
    told = f"maxUnavailable {budget['spec'].get('maxUnavailable')}, disruptions allowed now: {allowed}"
    return passed(told)


def _spread(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    nodes = {pod["spec"].get("nodeName") for pod in evidence.ready}
    told = f"{len(evidence.ready)} pods that answer are on {len(nodes)} nodes"
    if len(nodes) >= 2:
        return passed(told)
    fix = "more replicas" if len(evidence.ready) < 2 else "another node with room; docs/operations.md, Where pods run"
    return warned(told, fix)


def _probes(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if evidence.template is None:
        return unknown(evidence.untold)
    missing = [probe for probe in _PROBES if probe not in container(evidence.template)]
    if missing:
        return failed(f"without {', '.join(missing)}", "take what removes it out of podTemplate")
    return passed(", ".join(_PROBES))


def _autoscaling(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if evidence.service is None:
        return not_parsed(evidence)
    autoscaling = evidence.service.spec.autoscaling
    if autoscaling is None:
        return warned("off: the load decides nothing", "spec.autoscaling with targets.queueDepth; docs/autoscaling.md")
    told = evidence.condition("ScalingActive")
    bounds = f"{autoscaling.min_replicas} to {autoscaling.max_replicas} pods"
    if told.get("status") == "True":
        return passed(f"{bounds}; {told['message']}")
    said = f"{bounds}; {told.get('message', 'the autoscaler has not looked yet')}"
    if evidence.blind_autoscaler:
        return failed(said, f"docs/autoscaling.md says what {told['reason']} means")
    return unknown(said, "look again in a minute or two")


def _drain(evidence: Evidence, load: Load | None, _trial: Trial) -> Outcome:
    if evidence.service is None:
        return not_parsed(evidence)
    drain = evidence.service.spec.rollout.drain
    longest = load.whole_answer_ever.p99 if load is not None else None
    told = f"rollout.drain {drain}"
    if longest is None:
        return passed(told)
    told += f", 99 of 100 answers take up to {duration(longest)}"
    if parse_duration(drain) < longest:
        return warned(told, "a longer rollout.drain: answers are cut when pods are replaced")
    return passed(told)


ITEMS: dict[str, Check] = {
    "replicas": _replicas,
    "load balancing": _balanced,
    "disruption budget": _disruptions,
    "spread": _spread,
    "probes": _probes,
    "autoscaling": _autoscaling,
    "drain": _drain,
    "failover drill": stated("drill", "delete a pod and a node under load (docs/reliability.md), and write down when"),
}
