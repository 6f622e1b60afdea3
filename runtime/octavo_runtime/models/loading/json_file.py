"""JSON files of a model's folder."""

import json
from pathlib import Path
from typing import Any

from octavo_runtime.models.spec import UnsupportedModel


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UnsupportedModel, which names the file."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise UnsupportedModel(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise UnsupportedModel(f"{path}: must be nested less deep") from None
    except ValueError as error:
        raise UnsupportedModel(f"{path}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnsupportedModel(f"{path}: must be an object, got {type(value).__name__}")
    return value
