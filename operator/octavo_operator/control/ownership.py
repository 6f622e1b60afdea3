"""Whose an object is: the service's, an orphan of its, or somebody else's, whose is never touched."""

from collections.abc import Mapping
from typing import Any

from octavo_operator.api import GROUP, KIND
from octavo_operator.kinds import SERVICE_LABEL
from octavo_operator.resources.metadata import owns
from octavo_operator.status.conditions import NAME_CONFLICT, Obstacle

Object = dict[str, Any]

# On an LLMService, "true": take over objects that bear its name and labels and belong to nobody.
ADOPT = f"{GROUP}/adopt"


def conflict(body: Object, standing: Mapping[tuple[str, str], Object | None]) -> Obstacle | None:
    """What stands where the service's own objects would go; `standing`: what is there, by kind and name."""
    name, uid = body["metadata"]["name"], body["metadata"]["uid"]
    foreign = [live for live in standing.values() if live is not None and not owns(uid, live)]
    leaving = [live for live in foreign if _owner(live) == (KIND, name)]
    if leaving:
        named = ", ".join(f"{live['kind']} {live['metadata']['name']}" for live in leaving)
        said = f"{named} of a former LLMService {name} {'is' if len(leaving) == 1 else 'are'} still being removed"
        return Obstacle(NAME_CONFLICT, said, valid=True, stalls=False)
    orphans = [live for live in foreign if _is_orphan(live, name)]
    adopting = body["metadata"].get("annotations", {}).get(ADOPT) == "true"
    others = [live for live in foreign if live not in orphans]
    in_the_way = others if adopting else foreign
    if not in_the_way:
        return None
    said = ", ".join(f"{live['kind']} {live['metadata']['name']} exists and is {_whose(live)}" for live in in_the_way)
    advice = []
    if orphans and not adopting:
        advice.append(f"to take over what a former LLMService left: kubectl annotate llmservice {name} {ADOPT}=true")
    if others:
        advice.append("give the LLMService another name, or delete what is in its way if nobody needs it")
    return Obstacle(NAME_CONFLICT, f"{said}; {'; '.join(advice)}", valid=True)


def _owner(live: Object) -> tuple[str, str] | None:
    owners = live["metadata"].get("ownerReferences", [])
    return (owners[0]["kind"], owners[0]["name"]) if owners else None


def _is_orphan(live: Object, name: str) -> bool:
    labels = live["metadata"].get("labels", {})
    return (
        _owner(live) is None
        and labels.get(SERVICE_LABEL) == name
        and labels.get("app.kubernetes.io/managed-by") == "octavo"
    )


def _whose(live: Object) -> str:
    owner = _owner(live)
    return f"{owner[0]} {owner[1]}'s" if owner else "another's"
