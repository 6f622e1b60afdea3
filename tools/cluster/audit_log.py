"""The API server's audit log: what the operator and the administrator asked, and when."""

import datetime
import json
from collections import Counter
from typing import Any

from nodeless import ApiServer

Object = dict[str, Any]

OPERATOR = "octavo-operator"  # the user, as the audit log names it

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "users": [OPERATOR]},
        {"level": "Metadata", "users": ["admin"], "resources": [{"group": "serving.octavo.dev"}]},
        {"level": "None"},
    ],
}


def read(server: ApiServer) -> list[Object]:
    """What the operator and the administrator asked so far."""
    lines = (server.folder / "audit.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def of_operator(events: list[Object]) -> list[Object]:
    """Its requests that have come to an end; a watch lasts as long as it lasts."""
    return [
        event
        for event in events
        if event["user"]["username"] == OPERATOR and event["verb"] != "watch" and "objectRef" in event
    ]


def calls(events: list[Object]) -> dict[str, int]:
    counted = Counter(f"{event['verb']} {event['objectRef'].get('resource', '?')}" for event in of_operator(events))
    return dict(counted.most_common())


def taken(events: list[Object], verb: str) -> dict[str, float]:
    """When the API server had taken what the administrator did to each service."""
    return {
        event["objectRef"]["name"]: _at(event, "stageTimestamp")
        for event in events
        if event["user"]["username"] == "admin" and event["verb"] == verb and event.get("responseStatus")
    }


def delays(events: list[Object], changed: dict[str, float]) -> list[float]:
    """Seconds from each change of a spec, once the API server has taken it, to the Deployment that the operator then
    applied, in ascending order. `changed`: the times by the services' names."""
    applied: dict[str, float] = {}
    for event in of_operator(events):
        reference = event["objectRef"]
        if event["verb"] == "patch" and reference.get("resource") == "deployments":
            name, when = reference["name"], _at(event, "stageTimestamp")
            if name in changed and name not in applied and when > changed[name]:
                applied[name] = when
    missing = changed.keys() - applied.keys()
    if missing:
        raise SystemExit(f"{len(missing)} of {len(changed)} changes were not applied, such as {min(missing)}'s")
    return sorted(applied[name] - changed[name] for name in changed)


def _at(event: Object, key: str) -> float:
    return datetime.datetime.fromisoformat(event[key]).timestamp()
