"""What the programs of this folder find about the kernels, kept until the kernels, torch or Triton change."""

import fcntl
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import octavo_kernels


def output(program: str, *arguments: str, reads: Sequence[Path] = (), **environment: str) -> str:
    """Standard output of a program of this folder, which depends on nothing but what it is keyed by, and on the files
    that it `reads`.

    In `test-kernels` of the cache folder, a file a command line. Of processes that ask at once one runs it, and the
    others wait. A long run (OCTAVO_SOAK) computes it anew. Raises AssertionError with what the program says when it
    fails; failures are not kept.
    """
    path = Path(__file__).with_name(program)
    cache = Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo") / "test-kernels"
    cache.mkdir(parents=True, exist_ok=True)
    command = json.dumps([program, *arguments, environment])
    kept = cache / f"{path.stem}-{hashlib.sha256(command.encode()).hexdigest()[:16]}.json"
    key = digest([path, *reads])
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.environ.get("OCTAVO_SOAK") and (found := read(kept, key)) is not None:
            return found
        run = subprocess.run(
            [sys.executable, path, *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        unfinished = kept.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"key": key, "output": run.stdout}))
        unfinished.replace(kept)
        return run.stdout


def read(kept: Path, key: str) -> str | None:
    """What is kept under a key, or None."""
    if not kept.is_file():
        return None
    content: dict[str, str] = json.loads(kept.read_text())
    return content["output"] if content["key"] == key else None


def digest(programs: Sequence[Path]) -> str:
    """By all that the kernels are made of, the programs, and what compiles and runs them."""
    versions = [platform.machine(), platform.python_version(), *map(version, ("numpy", "torch", "triton"))]
    found = hashlib.sha256(" ".join(versions).encode())
    folder = Path(octavo_kernels.__file__).parent
    sources = (path for path in folder.rglob("*") if path.suffix in (".py", ".hpp", ".cpp"))
    for source in sorted([*programs, *sources]):
        found.update(f"\n{source.name}\n".encode() + source.read_bytes())
    return found.hexdigest()
