"""The vectors of compiled loops against numpy."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
import torch
from llvmlite.binding import get_host_cpu_features

from octavo_kernels import vectors
from octavo_kernels.compiled import as_array, compiled
from octavo_kernels.vectors import LANES

_Array = npt.NDArray[Any]

RANDOM = np.random.default_rng(0)


@compiled()
def _arithmetic(x: _Array, y: _Array, z: _Array, number: float, out: _Array) -> None:
    a, b, c = vectors.load(x, 1), vectors.load(y, 0), vectors.load(z, 2)
    vectors.store(out, 0, vectors.multiply_add(a, b, c))
    vectors.store(out, LANES, vectors.add(a, b))
    vectors.store(out, 2 * LANES, vectors.maximum(a, b))
    vectors.store(out, 3 * LANES, vectors.broadcast(np.float32(number)))
    vectors.store(out, 4 * LANES, vectors.zeros())


def test_arithmetic_is_done_in_each_lane() -> None:
    x, y, z = RANDOM.standard_normal((3, LANES + 2)).astype(np.float32)
    out = np.full(5 * LANES, np.nan, np.float32)
    _arithmetic(x, y, z, 0.25, out)
    a, b, c = x[1 : LANES + 1], y[:LANES], z[2:]
    expected = (a * b + c, a + b, np.maximum(a, b), np.full(LANES, 0.25), np.zeros(LANES))
    np.testing.assert_allclose(out.reshape(5, LANES), expected, rtol=1e-6, atol=1e-6)


@compiled()
def _folds(x: _Array, out: _Array) -> None:
    parts = vectors.load(x, 0), vectors.load(x, LANES), vectors.load(x, 2 * LANES), vectors.load(x, 3 * LANES)
    out[0], out[1] = vectors.sum_lanes(parts[0]), vectors.greatest_lane(parts[0])
    vectors.store_sums(out, 3, parts[0], parts[1], parts[2], parts[3])


def test_lanes_are_summed_and_compared() -> None:
    x = RANDOM.standard_normal(4 * LANES).astype(np.float32)
    out = np.full(9, np.nan, np.float32)
    _folds(x, out)
    assert out[0] == pytest.approx(x[:LANES].sum(), abs=1e-5)
    assert out[1] == x[:LANES].max()
    np.testing.assert_allclose(out[3:7], x.reshape(4, LANES).sum(1), atol=1e-5)
    assert np.isnan(out[[2, 7, 8]]).all()


@compiled()
def _widened(x: _Array, index: int, out: _Array) -> None:
    vectors.prefetch(x.ctypes.data + 1000)
    vectors.prefetch(0)
    vectors.store(out, 0, vectors.load(x, index))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_each_type_of_number_is_widened(dtype: torch.dtype) -> None:
    x = torch.randn(LANES + 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    x[5], x[6], x[7] = torch.inf, -0.0, torch.finfo(dtype).tiny
    out = np.full(LANES, np.nan, np.float32)
    _widened(as_array(x), 3, out)
    assert torch.from_numpy(out).equal(x[3:].float())


@compiled()
def _unpacked(address: int, pairs: _Array, out: _Array) -> None:
    """Pairs are seen through their products with (1, 0) and (0, 1), which lie in `pairs`."""
    low, high = vectors.load_nibble_pairs(address)
    for place, vector in enumerate((low, high, vectors.load_byte_pairs(address))):
        for half in range(2):
            dot = vectors.add_dot(vectors.broadcast_pair(pairs, 2 * half), vector, vectors.zero_integers())
            vectors.store(out, (2 * place + half) * LANES, vectors.to_floats(dot))
    vectors.store(out, 6 * LANES, vectors.load_halves(address))


def test_bytes_are_unpacked() -> None:
    data = RANDOM.integers(0, 256, 33, dtype=np.uint8)
    data[2::2] &= 0x7B  # as float16, no infinity and no NaN
    packed = data[1:]  # at an odd address
    out = np.full(7 * LANES, np.nan, np.float32)
    _unpacked(packed.ctypes.data, np.array([1, 0, 0, 1], np.int16), out)
    halves, numbers = np.frombuffer(packed.tobytes(), np.float16), packed.view(np.int8)
    low, high = packed & 15, packed >> 4
    expected = (low[::2], low[1::2], high[::2], high[1::2], numbers[::2], numbers[1::2], halves)
    np.testing.assert_array_equal(out.reshape(7, LANES), expected)


@compiled()
def _dots(address: int, pairs: _Array, out: _Array) -> None:
    total = vectors.zero_integers()
    for index in range(0, len(pairs), 2):
        total = vectors.add_dot(vectors.broadcast_pair(pairs, index), vectors.load_byte_pairs(address), total)
    vectors.store(out, 0, vectors.to_floats(total))


@pytest.mark.parametrize("instruction", ["avx512bw", "avx2", ""])
def test_products_of_pairs_are_summed_in_32_bits(instruction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if instruction and not get_host_cpu_features().get(instruction):
        pytest.skip(f"this CPU has no {instruction}")
    monkeypatch.setattr(vectors, "_DOT_INSTRUCTION", instruction)
    loop = numba.njit(_dots.py_func)  # type: ignore[attr-defined] # compiled anew: the choice is made then
    numbers = RANDOM.integers(-128, 128, 32, dtype=np.int8)
    pairs = np.array([32767, -32767, 5, 32767, -32767, -32767], np.int16)
    out = np.full(LANES, np.nan, np.float32)
    loop(numbers.ctypes.data, pairs, out)
    exact = numbers.astype(np.int64).reshape(LANES, 2) @ pairs.astype(np.int64).reshape(3, 2).sum(0)
    np.testing.assert_array_equal(out, exact.astype(np.float32))


@compiled()
def _rounded(x: _Array, out: _Array) -> None:
    vectors.store_rounded(out, 1, vectors.load(x, 0))
    vectors.store_rounded(out, 1 + LANES, vectors.magnitude(vectors.load(x, 0)))


def test_numbers_are_rounded_to_16_bits() -> None:
    x = (RANDOM.standard_normal(LANES) * 9000).astype(np.float32)
    x[:5] = 32767, -32767, 0.5, 1.5, -0.4
    out = np.zeros(2 * LANES + 2, np.int16)
    _rounded(x, out)
    np.testing.assert_array_equal(out, [0, *np.rint(x).astype(np.int16), *np.rint(np.abs(x)).astype(np.int16), 0])
