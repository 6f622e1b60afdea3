"""Errors of the one internal request, told in the field names of the API that the client used."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import ValidationError

from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.server.http.errors import ApiError, explain, invalid
from octavo_runtime.server.http.record import current_request

FieldNames = Sequence[tuple[str, str]]
"""Patterns of a chat request's field names, each with the client's own name (as for re.sub); the first that fits
counts."""


@contextmanager
def told_as(names: FieldNames) -> Iterator[None]:
    """Around what a chat request is made of and does: its errors come out as ApiError, and what is ignored meanwhile is
    noted, with the client's names."""
    ignored = current_request().ignored
    before = len(ignored)
    try:
        yield
        ignored[before:] = [_name(names, field) for field in ignored[before:]]
    except ValidationError as error:
        raise _renamed(
            names, *explain([{**one, "loc": ("body", *one["loc"])} for one in error.errors()], None)
        ) from None
    except InvalidParameter as error:
        raise _renamed(names, str(error), error.field) from None
    except ApiError as error:
        told = error.body["error"]
        if error.status_code != 400 or told["param"] is None:
            raise
        raise _renamed(names, told["message"], told["param"], told["code"]) from None


def _renamed(names: FieldNames, message: str, field: str | None, code: str | None = None) -> ApiError:
    if field is None:
        return invalid(message, None, code)
    told = _name(names, field)
    rule, got, value = message.removeprefix(field).partition(", got ")
    # A rule may name further fields; a value is the client's own text.
    rule = re.sub(r"\b[a-z]+_[a-z_]+\b", lambda match: _name(names, match[0]), rule)
    return invalid((told if message.startswith(field) else "") + rule + got + value, told, code)


def _name(names: FieldNames, field: str) -> str:
    for pattern, name in names:
        told, found = re.subn(f"^(?:{pattern})(?![a-z_])", name, field, count=1)
        if found:
            return told
    return field
