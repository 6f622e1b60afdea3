"""`python -m octavo_operator.control.installation`: does this installation work? `helm test` runs it so."""

import argparse
import asyncio
import sys

from octavo_operator.api import KIND, PLURAL
from octavo_operator.cluster import Connection, Refused, connect
from octavo_operator.control import claims


async def defects(cluster: Connection, namespace: str, deployment: str, serves: list[str]) -> list[str]:
    """What is wrong, one line each. `serves`: the namespaces that the operator serves; empty: all."""
    found = []
    places: list[str | None] = [*serves] or [None]
    for place in places:
        where = f"in namespace {place}" if place else "in all namespaces"
        try:
            services = await cluster.services(place)
        except Refused as error:
            found.append(f"the operator may not list {PLURAL} {where}: {error}")
            continue
        if services is None:
            found.append(f"{KIND} is not served: install the chart with crds.enabled=true")
        else:
            print(f"{len(services)} {PLURAL} {where}")
            found += await _contended(cluster, {service["metadata"]["namespace"] for service in services})
    operator = await cluster.get("Deployment", namespace, deployment)
    available = (operator or {}).get("status", {}).get("availableReplicas", 0)
    if not available:
        found.append(f"the operator is not up: kubectl --namespace {namespace} describe deployment {deployment}")
    return found


async def _contended(cluster: Connection, namespaces: set[str]) -> list[str]:
    found = []
    for namespace in sorted(namespaces):
        lease = await cluster.get("Lease", namespace, claims.NAME)
        claim = claims.read(lease) if lease is not None else None
        if claim is not None and claim.contention is not None:
            found.append(f"namespace {namespace}: {claim.contention}")
    return found


async def _main(options: argparse.Namespace) -> int:
    async with connect() as cluster:
        found = await defects(cluster, options.namespace, options.deployment, options.serves)
    for defect in found:
        print(defect, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m octavo_operator.control.installation", description=__doc__)
    parser.add_argument("--namespace", required=True, help="where the chart is installed")
    parser.add_argument("--deployment", required=True, help="name of the operator's Deployment")
    parser.add_argument("--serves", action="append", default=[], help="a namespace that it serves; repeatable")
    sys.exit(asyncio.run(_main(parser.parse_args())))
