"""Which of several replicas of one installation works: the one that holds the installation's Lease. The others wait
until it gives the Lease up, or is not seen to renew it for its whole length.

A leader stops before others may take over: it gives itself less time than the Lease gives it. How long ago something
was is measured by each replica for itself, by a clock that nobody sets: the clocks of the nodes need not agree, and may
jump. The times on the Lease are for people."""

import asyncio
import datetime
import logging
import time
from collections.abc import Callable
from typing import Any

from octavo_operator.api import GROUP
from octavo_operator.cluster import Refused, Stale, Trouble
from octavo_operator.control.lease import Leases, Sightings, stamp

logger = logging.getLogger(__name__)

Object = dict[str, Any]

LEADER = f"{GROUP}/leader"  # label of the leader's pod; by it the Service of the metrics API finds it
LENGTH = 15  # seconds without a renewal after which another takes over
RENEWAL = 3.0  # seconds from one renewal, or one look, to the next
_STOPS_AFTER = 10.0  # seconds without a renewal after which the leader stops
_IN_THE_WAY = (Refused, Stale, Trouble, TimeoutError)


class Leadership:
    """Of one replica. `identity`: its pod's name; `namespace`, `name`: of the Lease, in the pod's namespace. `clock`
    tells the time, `passing` seconds that pass."""

    def __init__(
        self,
        leases: Leases,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], datetime.datetime],
        passing: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.leader: str | None = None  # as of the last look
        self._leases = leases
        self._namespace, self._name = namespace, name
        self._clock = clock
        self._passing = passing
        self._renewed = passing()
        self._seen = Sightings(passing)

    async def won(self) -> None:
        """Wait until this replica is the leader."""
        while True:
            try:
                if self.leader is None:
                    await self._label(None)  # it may have led before its container started anew
                if await self._try():
                    await self._label("true")
                    return
            except _IN_THE_WAY as error:
                logger.warning("the Lease %s: will look again: %s", self._name, error)
            await asyncio.sleep(RENEWAL)

    async def lost(self) -> None:
        """Stay the leader for as long as that can be; returns when another may be."""
        while self._passing() - self._renewed < _STOPS_AFTER:
            await asyncio.sleep(RENEWAL)
            try:
                async with asyncio.timeout(RENEWAL):
                    if not await self._try():
                        logger.error("%s leads now", self.leader)
                        return
            except _IN_THE_WAY as error:
                logger.warning("the Lease %s cannot be renewed, will try again: %s", self._name, error)
        logger.error("the Lease %s was not renewed for %.0f s", self._name, _STOPS_AFTER)

    async def give_up(self) -> None:
        """Let another lead at once."""
        try:
            lease = await self._leases.get("Lease", self._namespace, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                await self._leases.merge(lease, {"spec": {"holderIdentity": ""}})
        except _IN_THE_WAY as error:
            logger.debug("the Lease %s is not given up: %s", self._name, error)

    async def _try(self) -> bool:
        """Make, renew or take over the Lease, unless another holds it; whether it is this replica's. Stale where
        another was faster."""
        lease = await self._leases.get("Lease", self._namespace, self._name)
        now, began = self._clock(), self._passing()
        spec: Object = {"holderIdentity": self.identity, "renewTime": stamp(now), "leaseDurationSeconds": LENGTH}
        if lease is None:
            metadata = {"namespace": self._namespace, "name": self._name}
            content = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
            await self._leases.create(content | {"spec": spec | {"acquireTime": stamp(now), "leaseTransitions": 0}})
        else:
            standing = lease.get("spec", {})
            holder = standing.get("holderIdentity") or None
            length = standing.get("leaseDurationSeconds", LENGTH)
            stood = self._seen.unchanged(self._name, standing)
            if holder not in (None, self.identity) and stood < length:
                self._learn(holder)
                return False
            if holder != self.identity:
                spec |= {"acquireTime": stamp(now), "leaseTransitions": standing.get("leaseTransitions", 0) + 1}
            await self._leases.merge(lease, {"spec": spec})
        self._renewed = began
        self._learn(self.identity)
        return True

    async def _label(self, value: str | None) -> None:
        pod = await self._leases.get("Pod", self._namespace, self.identity)
        if pod is not None and pod["metadata"].get("labels", {}).get(LEADER) != value:
            await self._leases.merge(pod, {"metadata": {"labels": {LEADER: value}}})

    def _learn(self, leader: str | None) -> None:
        if leader != self.leader:
            logger.info("%s leads", leader if leader != self.identity else f"this replica, {leader},")
        self.leader = leader
