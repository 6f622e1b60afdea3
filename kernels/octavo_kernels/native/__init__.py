"""The CPU's loops, C++ of each op's `cpu.hpp`: where a kernel is a walk through memory, torch would have to copy what
lies scattered before it could compute with it, and each call costs more than a row's work.

An installed package brings them compiled for several kinds of CPU (see `compilation`). They get addresses and sizes,
check nothing, and run without the interpreter's lock."""

import ctypes
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from octavo_kernels.native.compilation import LEVELS, build, digest

# numbers.hpp names them so.
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

_ARGUMENTS = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "d": ctypes.c_double}


def loop(name: str, arguments: str) -> Callable[..., None]:
    """A function of exports.cpp. `arguments`, a letter each: p an address (int, or ctypes.byref of a structure), i a
    64-bit integer, d a float64."""
    function = getattr(_library(level()), f"octavo_{name}")
    function.argtypes, function.restype = [_ARGUMENTS[letter] for letter in arguments], None
    return function  # type: ignore[no-any-return]


def workers() -> int:
    """Threads of parallel loops: torch's own."""
    return torch.get_num_threads()


def level() -> str:
    """Which of `compilation.LEVELS` this CPU has, as torch finds it for its own kernels (ATEN_CPU_CAPABILITY)."""
    best = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3"}.get(torch.backends.cpu.get_cpu_capability(), LEVELS[-1])
    return best if best in LEVELS else LEVELS[-1]


@cache
def _library(level: str) -> ctypes.CDLL:
    # Two pools of threads that take turns would each spin on the other's cores. torch brings its own copy of GNU's
    # OpenMP; once that is loaded, the loops find no other.
    libgomp = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    if libgomp.exists():
        ctypes.CDLL(str(libgomp), mode=ctypes.RTLD_GLOBAL)
    installed = Path(__file__).with_name(f"{level}.so")
    if installed.exists():
        return ctypes.CDLL(str(installed))
    kept = Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo") / "kernels" / f"{digest(level)}.so"
    if kept.exists():
        return ctypes.CDLL(str(kept))
    try:
        build(level, kept)
        return ctypes.CDLL(str(kept))
    except OSError:  # no folder can be written: each process compiles anew
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / kept.name
            build(level, library)
            return ctypes.CDLL(str(library))
