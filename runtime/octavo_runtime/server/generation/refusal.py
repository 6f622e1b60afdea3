"""Why the engine gave no answer, as the error that a client reads."""

import re
from collections.abc import Callable

from octavo_runtime.protocol.messages import RequestError
from octavo_runtime.server.http.errors import (
    ApiError,
    deadline_exceeded,
    invalid_parameter,
    overloaded,
    unavailable,
)

FormField = Callable[[int | None], str]
"""The path of the field that asks for the answer's form, or for a line of it, counted from 1."""

_RETRY_SECONDS = 1  # a queue moves on quickly

# llguidance tells the place in a grammar in its own words.
_LINE = re.compile(r"at (\d+)\(\d+\): (?:failed to compile JSON schema: )?")


def refusal(error: RequestError, form_field: FormField) -> ApiError:
    """The error. form_field: by the names of the request that the engine was asked for."""
    match error.kind:
        case "invalid" if error.field is not None and error.field.startswith("structured_outputs"):
            return _unmet_form(error.reason, form_field)
        case "invalid":
            return invalid_parameter(error.field, error.reason)
        case "overloaded":
            return overloaded(error.message, retry_after=_RETRY_SECONDS)
        case "queue_timeout":
            return unavailable(error.message, retry_after=_RETRY_SECONDS, code="queue_timeout")
        case "deadline":
            return deadline_exceeded(error.message)


def _unmet_form(reason: str, form_field: FormField) -> ApiError:
    found = _LINE.search(reason)
    if found is None or (field := form_field(int(found[1]))) == form_field(None):
        return invalid_parameter(form_field(None), reason)
    # The field says it better than the line of a grammar that the client has never seen.
    return invalid_parameter(field, reason[: found.start()] + reason[found.end() :])
