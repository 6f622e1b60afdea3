"""Who may call, what they may send, and what a pod may do."""

import re

from octavo_operator.api.label_selector import selects
from octavo_operator.commands.checklist.outcome import (
    Check,
    Outcome,
    failed,
    no_answer,
    not_parsed,
    passed,
    unknown,
    warned,
)
from octavo_operator.commands.evidence import Evidence, Object, container
from octavo_operator.commands.load import Load
from octavo_operator.commands.trial import INVALID, KEYLESS, Trial
from octavo_operator.kinds import SERVICE_LABEL
from octavo_operator.resources import pod_security

_ENFORCE = "pod-security.kubernetes.io/enforce"
_FLOATING = ("", "latest", "main", "master", "edge", "nightly")


def _keys(evidence: Evidence, _load: Load | None, trial: Trial) -> Outcome:
    if evidence.service is None:
        return not_parsed(evidence)
    endpoint = evidence.service.spec.endpoint
    if endpoint.api_keys_secret is None:
        routes = [name for name in ("ingress", "gateway") if getattr(endpoint, name) is not None]
        told = f"everybody may call who reaches the Service ({', '.join([endpoint.type, *routes])})"
        fix = "spec.endpoint.apiKeysSecret; docs/security.md"
        return warned(told, fix) if endpoint.type == "ClusterIP" and not routes else failed(told, fix)
    told = f"Secret {endpoint.api_keys_secret.name}"
    reply = trial.replies.get(KEYLESS)
    if reply is None:
        return unknown(f"{told}; whether it is asked for: {trial.troubles.get(KEYLESS, 'not tried')}")
    if reply.status != 401:
        return failed(
            f"{told}, but a request without a key got HTTP {reply.status}", "take what opens it out of the spec"
        )
    return passed(f"{told}; a request without a key got HTTP 401")


def _limits(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if evidence.service is None:
        return not_parsed(evidence)
    limits = evidence.service.spec.endpoint.rate_limit.model_dump(by_alias=True, exclude_none=True)
    if not limits:
        return warned("no limit: one client may take all", "spec.endpoint.rateLimit")
    return passed(", ".join(f"{name} {limit}" for name, limit in limits.items()) + ", each key on each replica")


def _inputs(_evidence: Evidence, _load: Load | None, trial: Trial) -> Outcome:
    reply = trial.replies.get(INVALID)
    if reply is None or reply.status == 401:
        return no_answer(trial, INVALID)
    told = f"a value out of its bounds got HTTP {reply.status}"
    return passed(told) if reply.status in (400, 422) else failed(told, "the server must refuse it; octavo bundle")


def _personal_data(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if not evidence.arguments:
        return unknown(evidence.untold)
    if "--log-prompts" in evidence.arguments:
        return warned("--log-prompts: what people write is logged, with keys and addresses taken out", "take it out")
    return passed("prompts and answers are not logged, nor are keys")


def _tls(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if evidence.service is None:
        return not_parsed(evidence)
    endpoint = evidence.service.spec.endpoint
    if endpoint.tls_secret is not None:
        return passed(f"HTTPS with Secret {endpoint.tls_secret.name}")
    told, fix = f"plain HTTP ({endpoint.type})", "spec.endpoint.tlsSecret, or TLS of an ingress or a mesh"
    return warned(told, fix) if endpoint.type == "ClusterIP" else failed(told, fix)


def _pods(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if evidence.template is None:
        return unknown(evidence.untold)
    if breach := pod_security.first_breach(evidence.template["spec"]):
        return failed(breach, "take it out of podTemplate")
    return passed("as Pod Security Standards' restricted asks: no root, no privileges, seccomp")


def _namespace(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if "Namespace" in evidence.unread:
        return unknown(evidence.unread["Namespace"])
    level = evidence.labels.get(_ENFORCE)
    if level == "restricted":
        return passed(f"namespace {evidence.namespace} enforces restricted")
    fix = f"kubectl label namespace {evidence.namespace} {_ENFORCE}=restricted"
    return warned(f"namespace {evidence.namespace} enforces {level or 'nothing'}", fix)


def _network(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if "NetworkPolicy" in evidence.unread:
        return unknown(evidence.unread["NetworkPolicy"])
    labels = {SERVICE_LABEL: evidence.name}
    for pod in evidence.pods:
        labels |= pod["metadata"].get("labels") or {}
    policies = [
        each["metadata"]["name"]
        for each in evidence.lists.get("NetworkPolicy", ())
        if selects(each["spec"].get("podSelector", {}), labels) and not _lets_all_in(each["spec"])
    ]
    if policies:
        return passed(f"NetworkPolicy {', '.join(policies)} selects the pods")
    return warned(
        "no NetworkPolicy selects the pods: every pod of the cluster may call", "spec.endpoint.allowedNamespaces"
    )


def _lets_all_in(policy: Object) -> bool:
    """Whether a rule has no peers, as of what is to keep others from ranks alone."""
    return any(not rule.get("from") for rule in policy.get("ingress") or ())


def _image(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if evidence.template is None:
        return unknown(evidence.untold)
    image = container(evidence.template).get("image", "")
    if re.search(r"@sha256:[0-9a-f]{64}$", image):
        return passed(f"{image}, by its digest")
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in _FLOATING:
        return failed(f"{image}: tomorrow it may be another", "name a version or a digest in spec.image")
    return passed(f"{image}, by a tag")


def _secrets(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    missing = [name for name, there in evidence.secrets.items() if not there]
    if missing:
        return failed(
            f"there is no Secret {', '.join(missing)}", "kubectl create secret generic NAME --from-literal=..."
        )
    if "Secret" in evidence.unread:
        if evidence.ready:
            return passed("pods answer, and would not without the Secrets that the spec names")
        return unknown(evidence.unread["Secret"])
    return passed(", ".join(evidence.secrets) + " exist" if evidence.secrets else "the spec names none")


ITEMS: dict[str, Check] = {
    "API keys": _keys,
    "rate limits": _limits,
    "inputs": _inputs,
    "personal data": _personal_data,
    "TLS": _tls,
    "pods": _pods,
    "namespace": _namespace,
    "network": _network,
    "image": _image,
    "secrets": _secrets,
}
