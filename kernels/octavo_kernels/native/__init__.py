"""The CPU's loops, C++ of each op's `cpu.hpp`: where a kernel is a walk through memory, torch would have to copy what
lies scattered before it could compute with it, and each call costs more than a row's work.

An installed package brings them compiled for several kinds of CPU (see `compilation`). They get addresses and sizes,
check nothing, and run without the interpreter's lock. A step's calls of them can be kept, and made again at once
(`recording`)."""

import ctypes
import os
import struct
import tempfile
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from octavo_kernels.native.compilation import LEVELS, build, digest

# numbers.hpp names them so.
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
CACHE_TYPES = TYPES | {torch.float8_e4m3fn: 3, torch.int8: 4}

Argument = Tensor | int | float | None
Pack = Callable[..., bytes]

# What takes calls of loops instead of the loops themselves: a function's address, its arguments, and what makes 64-bit
# words of them.
taken_by: ContextVar[Callable[[int, tuple[Argument, ...], Pack], None] | None] = ContextVar("taken_by", default=None)


def loop(name: str, letters: str) -> Callable[..., None]:
    """A function of exports.cpp. letters: of its arguments, p a tensor or None, i a 64-bit integer, d a float64."""
    function = getattr(library(), f"octavo_{name}")
    function.argtypes, function.restype = [ctypes.c_char_p], None
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    pack = struct.Struct(letters.translate(_WORDS)).pack

    def call(*arguments: Argument) -> None:
        take = taken_by.get()
        if take is None:
            function(pack(*[word(argument) for argument in arguments]))
        else:
            take(address, arguments, pack)

    return call


_WORDS = str.maketrans("pi", "qq")


def word(argument: Argument) -> int | float:
    """What a loop is given for an argument."""
    return argument.data_ptr() if isinstance(argument, Tensor) else 0 if argument is None else argument


def library() -> ctypes.CDLL:
    """The compiled loops for this CPU."""
    return _library(level())


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
