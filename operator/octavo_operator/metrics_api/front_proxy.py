"""Who may ask: the API server's aggregator, which vouches for its caller (Kubernetes' authenticating proxy). What the
caller may see, the API server has checked by then."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NAMESPACE, CONFIG_MAP = "kube-system", "extension-apiserver-authentication"


@dataclass(frozen=True)
class FrontProxy:
    """
    Attributes:
        authority: the certificates, in PEM, that sign the front proxy's.
        names: the common names that it may have; empty: any.
        headers: those that may name the user.
    """

    authority: str
    names: frozenset[str]
    headers: tuple[str, ...]


def read(config_map: Mapping[str, Any] | None) -> FrontProxy | None:
    """What the API server tells those that it sends requests to; None where it has no front proxy."""
    data = (config_map or {}).get("data", {})
    authority = data.get("requestheader-client-ca-file", "")
    if not authority.strip():
        return None
    return FrontProxy(
        authority,
        frozenset(json.loads(data.get("requestheader-allowed-names", "[]"))),
        tuple(json.loads(data.get("requestheader-username-headers", '["X-Remote-User"]'))),
    )


def refusal(
    front_proxy: FrontProxy, certificate: Mapping[str, Any] | None, headers: Mapping[str, str]
) -> tuple[int, str] | None:
    """HTTP status and reason where a request does not come through the front proxy; None where it does. `certificate`:
    the caller's, proved to be of the authority's making, as ssl.getpeercert() tells it."""
    if not certificate:
        return 401, "no client certificate: requests come through the API server alone"
    name = _common_name(certificate.get("subject", ()))
    if front_proxy.names and name not in front_proxy.names:
        return 403, f"the client certificate is {name!r}'s, and not the front proxy's"
    if not any(headers.get(header) for header in front_proxy.headers):
        return 401, f"no user: none of the headers {', '.join(front_proxy.headers)}"
    return None


def _common_name(subject: Iterable[Iterable[tuple[str, str]]]) -> str:
    return next((value for part in subject for key, value in part if key == "commonName"), "")
