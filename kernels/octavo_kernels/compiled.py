"""Loops in Python that numba compiles for the CPU: where a kernel is a walk through memory, torch would have to copy
what lies scattered before it could compute with it."""

import ctypes
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Loop = TypeVar("_Loop", bound=Callable[..., Any])

# numba's threads and torch's must be the same ones: two pools that take turns each spin on the other's cores. Both use
# GNU OpenMP, of which torch brings a copy; once its symbols are global, numba's calls go to them too.
_LIBGOMP = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
if _LIBGOMP.exists():
    ctypes.CDLL(str(_LIBGOMP), mode=ctypes.RTLD_GLOBAL)

import numba  # noqa: E402 - behind the library above

# Compiling takes seconds, so the result is kept, for this CPU and these sources: numba does not see that a loop depends
# on another file.
_CACHE = Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo") / "kernels"
_SOURCES = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
numba.config.CACHE_DIR = str(_CACHE / hashlib.sha256(_SOURCES).hexdigest()[:16])
numba.config.THREADING_LAYER_PRIORITY = ["omp", "workqueue", "tbb"]


def compiled(*, parallel: bool = False) -> Callable[[_Loop], _Loop]:
    """Decorates a function of arrays and numbers. Sums may be reordered, as in every fast kernel; with `parallel`,
    `numba.prange` spreads its turns over `workers()` threads."""

    def decorate(function: _Loop) -> _Loop:
        options = {"parallel": parallel, "nogil": True, "error_model": "numpy", "fastmath": _FAST}
        try:
            loop: _Loop = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder can be written: each process compiles anew
            loop = numba.njit(**options)(function)
        return loop

    return decorate


# All of fastmath but the promise that no infinity or NaN occurs.
_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}


def workers() -> int:
    """Threads of parallel loops: as many as torch's."""
    count = min(torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS))
    numba.set_num_threads(count)
    return count


def as_array(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor's memory as an array. numpy has no bfloat16 and numba no 16-bit float: their bits are given instead,
    of bfloat16 as uint16 and of float16 as int16, for `widened` to make numbers of."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    elif tensor.dtype == torch.float16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy()


def _widened(value: Any) -> Any:
    """A number of any array of `as_array` as float32."""
    raise NotImplementedError("only compiled loops call this")


def _narrowed(value: Any, array: Any) -> Any:
    """A float32 number as the elements of an array of `as_array`, rounded to the nearest."""
    raise NotImplementedError("only compiled loops call this")


widened, narrowed = _widened, _narrowed


@numba.extending.overload(_widened)
def _(value):  # type: ignore[no-untyped-def]  # numba compares the signatures
    if value == numba.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return _half_to_float if value == numba.int16 else lambda value: np.float32(value)


@numba.extending.overload(_narrowed)
def _(value, array):  # type: ignore[no-untyped-def]  # noqa: ARG001
    if array.dtype == numba.uint16:
        return _float_to_bfloat
    if array.dtype == numba.int16:
        return _float_to_half
    return lambda value, array: value  # noqa: ARG005


def _float_to_bfloat(value, array):  # type: ignore[no-untyped-def]  # noqa: ARG001
    bits = np.float32(value).view(np.uint32)
    if np.uint32(bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
        return np.uint16(0x7FC0)
    to_even = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + to_even) >> np.uint32(16))


def _half_to_float(value):  # type: ignore[no-untyped-def]
    bits = np.uint32(np.uint16(value))
    magnitude = np.uint32(np.uint32(bits & np.uint32(0x7FFF)) << np.uint32(13))
    # The exponents' biases differ by 112; a product mends that, for subnormal numbers too.
    number = magnitude.view(np.float32) * np.float32(2.0**112)
    if magnitude >= np.uint32(0x7C00 << 13):  # infinity and NaN
        number = np.uint32(magnitude | np.uint32(0x7F800000)).view(np.float32)
    return -number if bits >= np.uint32(0x8000) else number


def _float_to_half(value, array):  # type: ignore[no-untyped-def]  # noqa: ARG001
    bits = np.float32(value).view(np.uint32)
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    if magnitude > np.uint32(0x7F800000):
        half = np.uint32(0x7E00)
    elif magnitude >= np.uint32(0x47800000):  # 65536
        half = np.uint32(0x7C00)
    elif magnitude < np.uint32(0x38800000):  # 2**-14: subnormal; a sum with 0.5 has their spacing
        shifted = np.float32(magnitude.view(np.float32) + np.float32(0.5))
        half = np.uint32(shifted.view(np.uint32) - np.uint32(0x3F000000))
    else:
        to_even = np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(1))
        rounded = np.uint32(magnitude - np.uint32(112 << 23) + np.uint32(0xFFF) + to_even)
        half = np.uint32(rounded >> np.uint32(13))
    return np.int16(np.uint32(half | np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000))))


@compiled()
def exponential(x: Any) -> Any:
    """e ** x for float32 x <= 0 within 2e-7 of it, in instructions that a loop can run for many numbers at once, which
    the C library's function is not. Method: 2 ** whole * 2 ** fraction, the second by its Taylor series."""
    y = max(x * np.float32(1.4426950408889634), np.float32(-126.0))
    whole = np.floor(y)
    t = (y - whole) * np.float32(0.6931471805599453)
    series = np.float32(1 / 5040)
    series = series * t + np.float32(1 / 720)
    series = series * t + np.float32(1 / 120)
    series = series * t + np.float32(1 / 24)
    series = series * t + np.float32(1 / 6)
    series = series * t + np.float32(0.5)
    series = series * t + np.float32(1)
    series = series * t + np.float32(1)
    return series * np.uint32(np.uint32(np.int32(whole) + np.int32(127)) << np.uint32(23)).view(np.float32)
