"""Answers as JSON: structs, for a busy server encodes very many of them, and pydantic's models within them."""

from typing import Any

import msgspec
from pydantic import BaseModel


def _as_json(value: Any) -> msgspec.Raw:
    if isinstance(value, BaseModel):
        return msgspec.Raw(value.model_dump_json().encode())
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


encode = msgspec.json.Encoder(enc_hook=_as_json).encode
"""An object's JSON."""
