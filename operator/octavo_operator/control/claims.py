"""Which installation of the operator serves a namespace: the one that holds the namespace's Lease.

Another one that would serve it too leaves its services alone and leaves its name on the Lease; there the holder finds
it, and tells. Once the holder has not renewed the Lease for its whole length, the other takes over. As with any
Lease, the clocks of the nodes must agree to within some seconds."""

import asyncio
import datetime
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from octavo_operator.api import GROUP
from octavo_operator.cluster import Refused, Stale
from octavo_operator.kinds import LEASE

logger = logging.getLogger(__name__)

Object = dict[str, Any]

NAME = str(LEASE.only)  # one in each namespace that has services
CONTENDER = f"{GROUP}/contender"  # annotation: the other installation
CONTENDED = f"{GROUP}/contended-at"  # annotation: when it last wished for the namespace

LENGTH = 60  # seconds
RENEWAL = 15.0  # seconds from one renewal to the next


class Leases(Protocol):
    """What claiming needs of a connection to the API server."""

    async def get(self, kind: str, namespace: str, name: str) -> Object | None: ...
    async def create(self, content: Object) -> None: ...
    async def merge(self, live: Object, content: Object) -> None: ...


@dataclass(frozen=True)
class Claim:
    """Who serves a namespace, and who else would."""

    holder: str
    contender: str | None = None

    @property
    def contention(self) -> str | None:
        """What is to be told of two that would serve the namespace, and what to do about it."""
        if self.contender is None:
            return None
        return (
            f"installation {self.contender} of the operator would serve this namespace too, and leaves it alone while "
            f"{self.holder} serves it: take the namespace out of the chart's namespaces of one of them, or uninstall "
            "one"
        )


class Claims:
    """The claims on the namespaces that this installation serves or would serve. `installation`: its name, unique in
    the cluster."""

    def __init__(self, leases: Leases, installation: str, clock: Callable[[], datetime.datetime]) -> None:
        self.installation = installation
        self._leases = leases
        self._clock = clock
        self._known: dict[str, tuple[Claim, datetime.datetime]] = {}

    async def of(self, namespace: str) -> Claim:
        """The claim on a namespace, as of late; made if nobody holds it. Raises Trouble or Stale where that is
        not to be learnt now."""
        known = self._known.get(namespace)
        if known is not None and (self._clock() - known[1]).total_seconds() < 2 * RENEWAL:
            return known[0]
        return await self._renew(namespace)

    def troubles(self) -> dict[str, str]:
        """What keeps namespaces from being served by this installation, by their names."""
        return {
            f"namespace {namespace}": f"installation {claim.holder} serves it"
            for namespace, (claim, _) in self._known.items()
            if claim.holder != self.installation
        }

    async def keep(self, namespaces: Callable[[], Iterable[str]], changed: Callable[[str], None]) -> None:
        """Renew the claims on `namespaces()` for ever; `changed` is called with each whose claim is another than
        before."""
        while True:
            await asyncio.sleep(RENEWAL)
            wanted = set(namespaces())
            for namespace in self._known.keys() - wanted:
                del self._known[namespace]
            for namespace in sorted(wanted):
                former = self._known.get(namespace)
                try:
                    claim = await self._renew(namespace)
                except Stale:
                    continue  # somebody wrote it at the same time; there are several tries to a Lease's length
                except Exception as error:
                    logger.warning("the claim on namespace %s: will try again: %s", namespace, error)
                    continue
                if former is None or former[0] != claim:
                    changed(namespace)

    async def _renew(self, namespace: str) -> Claim:
        now = self._clock()
        try:
            claim = await self._claim(namespace, now)
        except Refused as error:
            # A chart of an earlier version gives no right to Leases, and a namespace that is being deleted takes none.
            logger.debug("namespace %s is served without a claim: %s", namespace, error)
            claim = Claim(self.installation)
        former = self._known.get(namespace, (Claim(self.installation), now))[0]
        self._known[namespace] = (claim, now)
        if claim != former:
            said = claim.contention or f"installation {claim.holder} serves it alone"
            logger.log(logging.WARNING if claim.contender else logging.INFO, "namespace %s: %s", namespace, said)
        return claim

    async def _claim(self, namespace: str, now: datetime.datetime) -> Claim:
        """Make, renew or take over the Lease, or leave a name on another's. Raises Stale where somebody was faster."""
        lease = await self._leases.get("Lease", namespace, NAME)
        if lease is None:
            await self._leases.create(self._fresh(namespace, now))
            return Claim(self.installation)
        standing = read(lease, now)
        if standing is not None and standing.holder != self.installation:
            await self._leases.merge(
                lease, {"metadata": {"annotations": {CONTENDER: self.installation, CONTENDED: _stamp(now)}}}
            )
            return Claim(standing.holder, self.installation)
        content: Object = {
            "spec": {"holderIdentity": self.installation, "renewTime": _stamp(now), "leaseDurationSeconds": LENGTH}
        }
        if standing is None:
            transitions = lease.get("spec", {}).get("leaseTransitions", 0) + 1
            content["spec"] |= {"acquireTime": _stamp(now), "leaseTransitions": transitions}
        claim = standing or Claim(self.installation)
        if claim.contender is None:
            content["metadata"] = {"annotations": {CONTENDER: None, CONTENDED: None}}
        await self._leases.merge(lease, content)
        return claim

    def _fresh(self, namespace: str, now: datetime.datetime) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": namespace, "name": NAME},
            "spec": {
                "holderIdentity": self.installation,
                "acquireTime": _stamp(now),
                "renewTime": _stamp(now),
                "leaseDurationSeconds": LENGTH,
                "leaseTransitions": 0,
            },
        }


def read(lease: Object, now: datetime.datetime) -> Claim | None:
    """What a Lease says; None where it has run out."""
    spec, annotations = lease.get("spec", {}), lease["metadata"].get("annotations", {})
    holder = spec.get("holderIdentity")
    if not holder or _age(spec.get("renewTime"), now) >= spec.get("leaseDurationSeconds", LENGTH):
        return None
    contends = _age(annotations.get(CONTENDED), now) < LENGTH
    return Claim(holder, annotations.get(CONTENDER) if contends else None)


def _age(stamp: str | None, now: datetime.datetime) -> float:
    """Seconds; boundless where no time is said, or none that can be read."""
    try:
        return (now - datetime.datetime.fromisoformat(stamp or "")).total_seconds()
    except (ValueError, TypeError):
        return float("inf")


def _stamp(now: datetime.datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
