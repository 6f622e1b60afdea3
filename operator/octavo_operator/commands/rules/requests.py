"""Requests that are refused, or fail."""

from collections.abc import Iterator

from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.load import Load

SECTION = "refused-requests"
_MOST = 10**9
_PERCENT = 0.01


def failed(_evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """Answers that the service owed and did not give."""
    if load is None:
        return
    bad = {code: rate for code, rate in load.statuses.items() if code >= "500"}
    if not bad and load.failed <= 0:
        return
    told = [f"{rate:.2f} requests a second end with HTTP {code}" for code, rate in bad.items()]
    told += [f"{load.failed:.2f} answers a second end with an error"] if load.failed > 0 else []
    yield Finding(
        "RequestsFail",
        "critical",
        "requests fail",
        [*told, f"of {load.requests:.2f} a second"],
        "the log names each by its request id: kubectl logs -l serving.octavo.dev/service=NAME; 503 is a full queue, "
        "a loading model or a pod that ends, 504 a request's own time limit",
        section=SECTION,
    )


def rate_limited(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """429: a key's limit, or a full queue."""
    if load is None or not (rate := load.statuses.get("429", 0.0)):
        return
    told = [f"{rate:.2f} of {load.requests:.2f} requests a second"]
    change: dict[str, object] = {}
    if evidence.service is not None:
        limits = evidence.service.spec.endpoint.rate_limit.model_dump(by_alias=True, exclude_none=True)
        told += [f"endpoint.rateLimit.{name} {limit} a replica" for name, limit in limits.items()]
        queue = evidence.service.spec.engine.max_queue_len
        told += [f"engine.maxQueueLen {queue}, {load.waiting} wait"] if queue else []
        if limits:
            doubled = {name: min(2 * limit, _MOST) for name, limit in limits.items()}
            change = {"endpoint": {"rateLimit": doubled}}
        elif queue:
            change = {"engine": {"maxQueueLen": min(2 * queue, 1_048_576)}}
    yield Finding(
        "RateLimited",
        "warning",
        "clients are refused with HTTP 429",
        told,
        "raise the limit that they meet, or add replicas: limits count for each replica; "
        "octavo_key_requests_total says which key it is",
        change,
        SECTION,
    )


def unauthorized(_evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """401: no key, or one that opens nothing."""
    if load is None or not (rate := load.statuses.get("401", 0.0)):
        return
    yield Finding(
        "Unauthorized",
        "warning",
        "clients are refused with HTTP 401",
        [f"{rate:.2f} of {load.requests:.2f} requests a second"],
        "a client has no API key, or one that is not in the Secret of endpoint.apiKeysSecret",
        section=SECTION,
    )


def invalid(_evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """400 and its like, where they are more than a few."""
    if load is None:
        return
    bad = {code: rate for code, rate in load.statuses.items() if code in ("400", "404", "413", "422")}
    if sum(bad.values()) <= _PERCENT * load.requests:
        return
    yield Finding(
        "InvalidRequests",
        "warning",
        "clients send what the server refuses",
        [f"{rate:.2f} requests a second end with HTTP {code}" for code, rate in bad.items()]
        + [f"of {load.requests:.2f} a second"],
        "each answer names field, bound and value; 404 is mostly another model name than spec.model.servedNames",
        section=SECTION,
    )
