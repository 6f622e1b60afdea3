"""The arguments of a call, as the JSON text that a model wrote."""

import json
from typing import Any


def whole(text: str) -> dict[str, Any] | None:
    """The arguments, with halves of surrogate pairs as `?`; None where the text is no JSON object: a limit or a stop
    string cut it, or the model wrote something else."""
    try:
        value = json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
