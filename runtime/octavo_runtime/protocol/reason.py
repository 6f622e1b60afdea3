"""Why a field is refused, as data: what stands behind its name, and the other fields that this speaks of."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mention:
    """Another field that a reason speaks of, by its path."""

    field: str


Reason = str | tuple[str | Mention, ...]
"""Text alone, or in pieces with the fields between them."""


def as_text(reason: Reason, name: Callable[[str], str] = str) -> str:
    """A reason in words. `name`: what the reader calls a field."""
    if isinstance(reason, str):
        return reason
    return "".join(piece if isinstance(piece, str) else name(piece.field) for piece in reason)
