"""The rules of `octavo why`, a file a trouble, in the order in which their findings are told."""

from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.finding import Finding, Rule
from octavo_operator.commands.load import load
from octavo_operator.commands.rules import latency, memory, requests, scaling, start, throughput

RULES: tuple[Rule, ...] = (
    memory.gpu_out_of_memory,
    memory.pod_out_of_memory,
    start.being_deleted,
    start.not_carried_out,
    start.pod_in_trouble,
    start.stands_still,
    start.slow_start,
    start.restarts,
    requests.failed,
    requests.rate_limited,
    requests.unauthorized,
    requests.invalid,
    latency.queue_grows,
    latency.preemptions,
    latency.cache_full,
    latency.slow_first_token,
    latency.steps_held_up,
    latency.stragglers,
    throughput.few_sequences,
    throughput.gpu_starved,
    throughput.gpu_idle,
    throughput.prefix_cache_off,
    throughput.prefix_cache_too_small,
    throughput.chatty_log,
    scaling.autoscaler_blind,
)


def findings(evidence: Evidence) -> list[Finding]:
    """What is wrong with the service, what is critical first."""
    now = load(evidence.samples)
    found = [finding for rule in RULES for finding in rule(evidence, now)]
    return sorted(found, key=lambda finding: finding.severity != "critical")
