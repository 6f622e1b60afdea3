"""The rights that the chart gives the operator: the rules of its roles, made from kinds.py."""

from collections.abc import Iterable

from octavo_operator.kinds import (
    CLUSTER_KINDS,
    INSTALLATION,
    KINDS,
    LEADER_KINDS,
    METRICS_API_CLUSTER_KINDS,
    METRICS_API_KINDS,
    ON_CLUSTER,
    OPERATOR,
    WEBHOOK,
    WEBHOOK_CLUSTER_KINDS,
    WEBHOOK_KINDS,
    WEBHOOK_ON_CLUSTER,
    Kind,
)

_NAMES = {
    INSTALLATION: '{{ include "octavo.metricsApi" . }}',
    ON_CLUSTER: '{{ include "octavo.metricsApiRole" . }}',
    OPERATOR: '{{ include "octavo.operator" . }}',
    WEBHOOK: '{{ include "octavo.webhook" . }}',
    WEBHOOK_ON_CLUSTER: '{{ include "octavo.webhookConfiguration" . }}',
}


def rights() -> str:
    """The rules of the chart's roles, as templates: octavo.rules, where services are, octavo.clusterRules elsewhere;
    octavo.metricsApiRules, octavo.webhookRules and octavo.leaderRules in the operator's own namespace, and
    octavo.metricsApiClusterRules and octavo.webhookClusterRules."""
    templates = {
        "octavo.rules": KINDS,
        "octavo.clusterRules": CLUSTER_KINDS,
        "octavo.metricsApiRules": METRICS_API_KINDS,
        "octavo.metricsApiClusterRules": METRICS_API_CLUSTER_KINDS,
        "octavo.leaderRules": LEADER_KINDS,
        "octavo.webhookRules": WEBHOOK_KINDS,
        "octavo.webhookClusterRules": WEBHOOK_CLUSTER_KINDS,
    }
    return "\n".join(_template(name, kinds) for name, kinds in templates.items())


def _template(name: str, kinds: Iterable[Kind]) -> str:
    rules = "".join(_rules(kind) for kind in kinds)
    return f'{{{{- define "{name}" -}}}}\n{rules}{{{{- end }}}}\n'


def _rules(kind: Kind) -> str:
    if kind.only is None:
        rules = _rule(kind, kind.plural, kind.verbs)
    else:
        # A name cannot be told before there is an object: the right to create knows none.
        rules = _rule(kind, kind.plural, ("create",)) if "create" in kind.verbs else ""
        rules += _rule(kind, kind.plural, [verb for verb in kind.verbs if verb != "create"], only=kind.only)
    if kind.status_verbs:
        rules += _rule(kind, f"{kind.plural}/status", kind.status_verbs)
    return rules


def _rule(kind: Kind, resource: str, verbs: Iterable[str], only: str | None = None) -> str:
    names = f"  resourceNames: [{_NAMES.get(only, only)}]\n" if only else ""
    group = kind.group or '""'
    return f"- apiGroups: [{group}]\n  resources: [{resource}]\n{names}  verbs: [{', '.join(verbs)}]\n"
