"""JSON files of a model's folder."""

import json
from pathlib import Path
from typing import Any

import msgspec

from octavo_runtime.models.spec import UnsupportedModel


def read_object(path: Path, refusal: type[ValueError] = UnsupportedModel) -> dict[str, Any]:
    """The object in a JSON file. Raises `refusal`, with one line that names the file."""
    value = _read(path, refusal)
    if not isinstance(value, dict):
        raise refusal(f"{path}: must be an object, got {type(value).__name__}")
    return value


def read_objects(path: Path) -> list[dict[str, Any]]:
    """The list of objects in a JSON file. Raises UnsupportedModel, which names the file."""
    value = _read(path, UnsupportedModel)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise UnsupportedModel(f"{path}: must be a list of objects")
    return value


def _read(path: Path, refusal: type[ValueError]) -> Any:
    try:
        return _decode(path.read_bytes())
    except OSError as error:
        raise refusal(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise refusal(f"{path}: must be nested less deep") from None
    except ValueError as error:
        raise refusal(f"{path}: is not JSON: {error}") from None


def _decode(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:  # perhaps for NaN or Infinity, which Python writes and JSON does not have
        value = json.loads(content)
        json.dumps(value, ensure_ascii=False).encode()  # Python reads halves of characters too, which no text holds
        return value
