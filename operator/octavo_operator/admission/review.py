"""A question of the API server, whether it may store an LLMService, and the answer: by the operator's own checks."""

from collections.abc import Mapping
from typing import Any

from octavo_operator import resources
from octavo_operator.api import InvalidSpec, parse
from octavo_operator.settings import Settings

Object = dict[str, Any]

# What an object that was never stored may lack, and no check looks at.
_UNSTORED = {"uid": "", "generation": 1, "name": "unnamed"}


def answer(review: Mapping[str, Any], settings: Settings) -> Object:
    """An AdmissionReview (admission.k8s.io/v1) with its answer. Raises KeyError or TypeError where it is none."""
    request = review["request"]
    response: Object = {"uid": request["uid"], "allowed": True}
    if (problem := _problem(request, settings)) is not None:
        response |= {"allowed": False, "status": {"code": 422, "reason": "Invalid", "message": problem}}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def _problem(request: Mapping[str, Any], settings: Settings) -> str | None:
    """What the operator would refuse. Nothing in an object whose spec stays as it is: it could not be labelled or
    deleted any more."""
    wanted, former = request["object"], request.get("oldObject")
    if former is not None and former.get("spec") == wanted.get("spec"):
        return None
    metadata = _UNSTORED | {"namespace": request["namespace"]} | wanted["metadata"]
    if "deletionTimestamp" in metadata:
        return None
    try:
        resources.check(parse(wanted | {"metadata": metadata}), settings)
    except InvalidSpec as error:
        return str(error)
    return None
