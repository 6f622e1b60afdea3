"""Which installation of the operator serves a namespace: the one that holds the namespace's Lease.

Another one that would serve it too leaves its services alone and leaves its name on the Lease; there the holder finds
it, and tells. Once the holder is not seen to renew the Lease for its whole length, the other takes over. How long ago
something was is measured by a clock that nobody sets, as in `leadership`: the times on the Lease are for people."""

import asyncio
import datetime
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from octavo_operator.api import GROUP
from octavo_operator.cluster import Refused, Stale
from octavo_operator.control.lease import Leases, Sightings, stamp
from octavo_operator.kinds import LEASE

logger = logging.getLogger(__name__)

Object = dict[str, Any]

NAME = str(LEASE.only)  # one in each namespace that has services
CONTENDER = f"{GROUP}/contender"  # annotation: the other installation
CONTENDED = f"{GROUP}/contended-at"  # annotation: when it last wished for the namespace
_SPEC = "spec"  # of the Lease: what its holder wrote

LENGTH = 60  # seconds
RENEWAL = 15.0  # seconds from one renewal to the next


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
    the cluster. `clock` tells the time, `passing` seconds that pass."""

    def __init__(
        self,
        leases: Leases,
        installation: str,
        clock: Callable[[], datetime.datetime],
        passing: Callable[[], float] = time.monotonic,
    ) -> None:
        self.installation = installation
        self._leases = leases
        self._clock = clock
        self._passing = passing
        self._known: dict[str, tuple[Claim, float]] = {}
        self._seen = Sightings(passing)  # of the holder and of the contender on the Lease of each namespace
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, namespace: str) -> Claim:
        """The claim on a namespace, as of late; made if nobody holds it. Raises Trouble or Stale where that is
        not to be learnt now."""
        async with self._asking[namespace]:  # at the start all services of a namespace ask at once
            known = self._known.get(namespace)
            if known is not None and self._passing() - known[1] < 2 * RENEWAL:
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
                self._asking.pop(namespace, None)
                for what in (_SPEC, CONTENDED):
                    self._seen.forget((namespace, what))
            for namespace in sorted(wanted):
                former = self._known.get(namespace)
                try:
                    async with self._asking[namespace]:
                        claim = await self._renew(namespace)
                except Stale:
                    continue  # somebody wrote it at the same time; there are several tries to a Lease's length
                except Exception as error:
                    logger.warning("the claim on namespace %s: will try again: %s", namespace, error)
                    continue
                if former is None or former[0] != claim:
                    changed(namespace)

    async def _renew(self, namespace: str) -> Claim:
        began = self._passing()
        try:
            claim = await self._claim(namespace, self._clock())
        except Refused as error:
            # A chart of an earlier version gives no right to Leases, and a namespace that is being deleted takes none.
            logger.debug("namespace %s is served without a claim: %s", namespace, error)
            claim = Claim(self.installation)
        former = self._known.get(namespace, (Claim(self.installation), began))[0]
        self._known[namespace] = (claim, began)
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
        standing = self._standing(namespace, lease)
        if standing is not None and standing.holder != self.installation:
            await self._leases.merge(
                lease, {"metadata": {"annotations": {CONTENDER: self.installation, CONTENDED: stamp(now)}}}
            )
            return Claim(standing.holder, self.installation)
        content: Object = {
            "spec": {"holderIdentity": self.installation, "renewTime": stamp(now), "leaseDurationSeconds": LENGTH}
        }
        if standing is None:
            transitions = lease.get("spec", {}).get("leaseTransitions", 0) + 1
            content["spec"] |= {"acquireTime": stamp(now), "leaseTransitions": transitions}
        claim = standing or Claim(self.installation)
        if claim.contender is None:
            content["metadata"] = {"annotations": {CONTENDER: None, CONTENDED: None}}
        await self._leases.merge(lease, content)
        return claim

    def _standing(self, namespace: str, lease: Object) -> Claim | None:
        """What holds of a Lease; None where it has run out."""
        claim, spec = read(lease), lease.get("spec", {})
        length = spec.get("leaseDurationSeconds", LENGTH)
        if claim is None or self._seen.unchanged((namespace, _SPEC), spec) >= length:
            return None
        contended = lease["metadata"].get("annotations", {}).get(CONTENDED)
        return claim if self._seen.unchanged((namespace, CONTENDED), contended) < LENGTH else Claim(claim.holder)

    def _fresh(self, namespace: str, now: datetime.datetime) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": namespace, "name": NAME},
            "spec": {
                "holderIdentity": self.installation,
                "acquireTime": stamp(now),
                "renewTime": stamp(now),
                "leaseDurationSeconds": LENGTH,
                "leaseTransitions": 0,
            },
        }


def read(lease: Object) -> Claim | None:
    """What a Lease says, however old it is; None where it is nobody's."""
    holder = lease.get("spec", {}).get("holderIdentity")
    return Claim(holder, lease["metadata"].get("annotations", {}).get(CONTENDER)) if holder else None
