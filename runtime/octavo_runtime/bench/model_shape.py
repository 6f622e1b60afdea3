"""What is measured where there is no checkpoint: a well-known model's shape with random weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from octavo_runtime.config.options import BadOption
from octavo_runtime.planning.known_models import find_config

WEIGHTS = ("auto", "int4", "int8", "fp8")
_INT4 = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}


@contextmanager
def served(model: str, weights: str = "auto") -> Iterator[tuple[str, dict[str, str]]]:
    """The model to open and the settings that it needs: `model` itself, or, where it names a shape of `octavo plan`
    that is not on this machine, a folder with its configuration alone.

    weights: as the model has them, or one of WEIGHTS: int4 as an AWQ checkpoint in groups of 128 stores them, the
    others as they are made at load. Raises BadOption."""
    if weights not in WEIGHTS:
        raise BadOption(f"weights: must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    at_load = {"quantization": weights} if weights in ("int8", "fp8") else {}
    config = find_config(model)
    if config is None:
        if weights == "int4":
            raise BadOption(f"weights: must be auto, int8 or fp8 for a model that is here, got {weights!r}")
        yield model, at_load
        return
    if weights == "int4":
        config = config | {"quantization_config": _INT4}
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        yield folder, {"load_format": "dummy"} | at_load
