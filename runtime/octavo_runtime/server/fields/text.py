"""Text that a client sends."""

import json
from typing import Annotated, TypeVar

from pydantic import AfterValidator

from octavo_runtime.protocol.sampling_params import unicode_fault

_MOST_CHARACTERS = 2**20  # of a value's JSON

_Value = TypeVar("_Value")


def valid_unicode(text: str) -> str:
    """`text` itself; ValueError where it has a `unicode_fault`, which pydantic lets pass inside unions."""
    if fault := unicode_fault(text):
        raise ValueError(fault)
    return text


Text = Annotated[str, AfterValidator(valid_unicode)]


def encodable(text: str) -> str:
    """`text` with each half of a surrogate pair spelt out, as in JSON; no answer can carry one."""
    return text.encode("utf-8", "backslashreplace").decode()


def valid_value(value: _Value) -> _Value:
    """`value` itself, of any JSON type; ValueError where it is not Unicode throughout, or beyond all bounds."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("must be nested less deep") from None
    except ValueError:
        raise ValueError("must have finite numbers") from None
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"must have at most {_MOST_CHARACTERS} characters of JSON, has {len(text)}")
    valid_unicode(text)
    return value
