"""What is raised of the API server's refusals and of its silence: each says why in one line."""

import json

from kubernetes.aio.client import ApiException


class Refused(RuntimeError):
    """The API server will not take an object as it is; one line that says why."""


class Forbidden(Refused):
    """A quota, a policy or a missing right forbids it: the object itself may be sound."""


class Trouble(RuntimeError):
    """The API server did not do as asked, or gave no answer; one line that says why."""


class Stale(RuntimeError):
    """The world changed between reading and writing; look again."""


class Missing(LookupError):
    """There is no such object, or no such kind: 404."""


# How server-side apply words what does not fit a kind's types.
_UNTYPED = (
    "failed to create typed patch object",
    "failed to convert new object",
    "field not declared in schema",
    "expected string, got",
)


def refusal(error: ApiException) -> Exception:
    """What a refusal comes to: Stale for 409, Refused for what asking again will not mend, Trouble for all else."""
    said = message(error)
    if error.status == 409:
        return Stale(said)
    if error.status == 403:
        return Forbidden(said)
    # What does not fit the kind's types comes back from server-side apply as a 500.
    if error.status in (400, 422) or any(sign in said for sign in _UNTYPED):
        return Refused(said)
    if error.status == 401:
        return Trouble(f"the API server does not know who asks: {said}")
    return Trouble(said)


def unanswered(error: Exception) -> Trouble:
    """What no answer at all comes to."""
    return Trouble(f"no answer from the API server: {type(error).__name__}: {error}")


def is_status(body: str | bytes | None) -> bool:
    """Whether it is the API server itself that speaks, and not whom it asked."""
    try:
        said = json.loads(body or "")
    except (TypeError, ValueError):
        return False
    return isinstance(said, dict) and said.get("kind") == "Status" and said.get("apiVersion") == "v1"


def message(error: ApiException) -> str:
    """The API server's own words, on one line."""
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = f"{error.status} {error.reason}"
    return " ".join(str(message).split())
