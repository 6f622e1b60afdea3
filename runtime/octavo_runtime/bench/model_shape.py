"""What is measured where there is no checkpoint: a well-known model's shape with random weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from octavo_runtime.planning.known_models import find_config


@contextmanager
def served(model: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The model to open and the settings that it needs: `model` itself, or, where it names a shape of `octavo plan`
    that is not on this machine, a folder with its configuration alone."""
    config = find_config(model)
    if config is None:
        yield model, {}
        return
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        yield folder, {"load_format": "dummy"}
