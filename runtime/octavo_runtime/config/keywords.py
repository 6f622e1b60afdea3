"""What a Python caller configures the engine by: EngineConfig's fields, and vLLM's names and values for them."""

import json
import logging
import re
from typing import Any

from pydantic import ValidationError

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.explain import explain
from octavo_runtime.config.flags import flag
from octavo_runtime.config.vllm_flags import FLAGS

# vLLM's engine takes these too; without a server they have no effect.
_OF_SERVER = ("served_model_name", "reasoning_parser")

_log = logging.getLogger(__name__)


def engine_config(model: str, **options: Any) -> EngineConfig:
    """The configuration that keyword arguments make; None leaves one out. What needs nothing of vLLM's is logged.
    ValueError: one line that names field, bound and value."""
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None and value != {}:
            given |= _own(name, value)
    try:
        return EngineConfig.model_validate({"model": model, **given})
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def _own(name: str, value: Any) -> dict[str, Any]:
    """An argument by the name and in the spelling of EngineConfig's fields; none where it needs nothing."""
    known = FLAGS.get(flag(name))
    if known is None:
        return {name: value}
    note = _in_python(known.note)
    if known.kind == "refused":
        if not value:  # a switch that is off
            return {}
        raise ValueError(f"{name}: is not taken here; {note}")
    if known.kind == "needless":
        if fault := known.fault(_text(value) if known.values else bool(value)):
            raise ValueError(f"{name}: {_in_python(fault)}")
        _log.info("%s=%r needs nothing here: %s", name, value, note)
        return {}
    if name in _OF_SERVER:
        _log.info("%s=%r needs nothing here: no server answers by it", name, value)
        return {}
    to = known.note or flag(name)
    field = to.removeprefix("--no-").removeprefix("--").replace("-", "_")
    if field not in EngineConfig.model_fields:  # a server's, which is told by the name that was given
        return {name: value}
    if known.values == 0:
        return {field: not value if to.startswith("--no-") else value}
    try:
        spelled = known.spell(_text(value))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not spelled:  # the default
        return {}
    is_as_given = known.kind == "same" and spelled == (str(value),)
    return {field: value if is_as_given else spelled[0]}


def _text(value: Any) -> str:
    """As it would stand on a command line."""
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).removeprefix("torch.")  # a dtype's own name begins so


def _in_python(note: str) -> str:
    """A note with the flags of fields as Python writes them."""
    return re.sub(r"--[a-z-]+", lambda found: _field(found[0]), note)


def _field(word: str) -> str:
    name = word.removeprefix("--").replace("-", "_")
    return name if name in EngineConfig.model_fields else word
