"""The operator's own metrics, for Prometheus."""

import socket
import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Histogram, start_http_server

from octavo_operator.control.service_metrics import ServiceMetrics
from octavo_runtime.protocol.metrics import OPERATOR_RECONCILE_SECONDS

_REGISTRY = CollectorRegistry()
_RECONCILE = Histogram(
    OPERATOR_RECONCILE_SECONDS.name,
    OPERATOR_RECONCILE_SECONDS.help,
    OPERATOR_RECONCILE_SECONDS.labels,
    registry=_REGISTRY,
    buckets=OPERATOR_RECONCILE_SECONDS.buckets,
)
services = ServiceMetrics()
_REGISTRY.register(services)


def serve(port: int) -> tuple[WSGIServer, threading.Thread]:
    """Answers GET /metrics on `port`, of IPv4 and IPv6, from a thread of its own; returns both, to be ended."""
    return start_http_server(port, addr="::" if socket.has_dualstack_ipv6() else "0.0.0.0", registry=_REGISTRY)  # noqa: S104


def reconciled(result: str, seconds: float) -> None:
    """A round ended; result: settled, blocked, gone, elsewhere, stale, error."""
    _RECONCILE.labels(result).observe(seconds)
