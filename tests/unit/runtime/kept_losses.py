"""By how much answers of a real model miss transformers' best ones, kept until what they depend on changes."""

import hashlib
import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path


def kept_losses(path: Path, depends_on: list[object], compute: Callable[[], list[float]]) -> list[float]:
    """`compute()`, which depends on the libraries and on `depends_on` alone: what is in the model's file, the answers,
    the code.

    The last that was computed is kept beside the model's file, `path`. A long run (OCTAVO_SOAK) computes it anew."""
    kept = path.with_suffix(".losses.json")
    libraries = [version(name) for name in ("gguf", "numpy", "torch", "transformers")]
    key = hashlib.sha256(json.dumps([libraries, depends_on]).encode()).hexdigest()
    found = json.loads(kept.read_text()) if kept.is_file() and "OCTAVO_SOAK" not in os.environ else {}
    if key not in found:
        found = {key: compute()}
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(found))
        unfinished.replace(kept)
    losses: list[float] = found[key]
    return losses
