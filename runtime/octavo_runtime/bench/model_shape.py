"""What is measured where there is no checkpoint: a well-known model's shape with random weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from octavo_runtime.config.options import BadOption
from octavo_runtime.planning.known_models import find_config
from octavo_runtime.quantizer.recipe import Recipe

WEIGHTS = ("auto", "int4", "int8", "fp8", "w8a8")
_STORED = {
    "int4": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"},
    "w8a8": Recipe("int8", 8).configuration(),
}


@contextmanager
def served(model: str, weights: str = "auto") -> Iterator[tuple[str, dict[str, str]]]:
    """The model to open and the settings that it needs: `model` itself, or, where it names a shape of `octavo plan`
    that is not on this machine, a folder with its configuration alone.

    weights: as the model has them, or one of WEIGHTS: int4 as an AWQ checkpoint in groups of 128 stores them,
    w8a8 as compressed-tensors stores int8 that is multiplied by int8, the others as they are made at load. Raises
    BadOption."""
    if weights not in WEIGHTS:
        raise BadOption(f"weights: must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    at_load = {"quantization": weights} if weights in ("int8", "fp8") else {}
    config = find_config(model)
    if config is None:
        if weights in _STORED:
            raise BadOption(f"weights: must be auto, int8 or fp8 for a model that is here, got {weights!r}")
        yield model, at_load
        return
    if weights in _STORED:
        config = config | {"quantization_config": _STORED[weights]}
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        yield folder, {"load_format": "dummy"} | at_load
