"""Compiles the CPU's loops, C++ of all ops' cpu.hpp, with the C++ compiler of this machine.

When a wheel is built, for each kind of CPU that it may come to; of a source tree for the CPU at hand, when the loops
are first called."""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

_FOLDER = Path(__file__).parent
_MAIN = _FOLDER / "exports.cpp"

# Sums may be reordered, and products fused with sums; infinities and NaN stay what they are.
_FLAGS = [
    "-std=c++20", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
    "-fassociative-math", "-freciprocal-math", "-ffp-contract=fast",
    *([] if sys.platform == "darwin" else ["-fopenmp"]),  # Apple's compiler has no OpenMP: one thread there
]  # fmt: skip

# Instruction sets by what they are called in -march, the best first.
LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64") if platform.machine() == "x86_64" else ("armv8-a",)


class NoCompiler(RuntimeError):
    """The loops cannot be compiled here. One line for a person."""


def digest(level: str) -> str:
    """What a library is known by: it changes with the loops and how they are compiled, and with nothing else."""
    found = hashlib.sha256(" ".join([platform.machine(), level, *_FLAGS]).encode())
    for source in sorted([_MAIN, *_FOLDER.parent.rglob("*.hpp")]):
        found.update(source.read_bytes())
    return found.hexdigest()[:16]


def build(level: str, library: Path) -> None:
    """Compiles the loops for CPUs of a level and puts them where they are wanted, whole or not at all."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        raise NoCompiler("no C++ compiler to compile the CPU's kernels with: install one (Debian: apt-get install g++)")
    library.parent.mkdir(parents=True, exist_ok=True)
    unfinished = library.with_suffix(f".{os.getpid()}")
    command = [*shlex.split(compiler), *_FLAGS, f"-march={level}", str(_MAIN), "-o", str(unfinished)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise NoCompiler(f"{compiler} cannot compile the CPU's kernels (C++20; GCC from 12 on can): {run.stderr}")
    unfinished.replace(library)
