"""Recordings of the CPU's loops: what a replay computes, what is refused, and where temporaries lie."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavo_kernels import add_rms_norm, gate_mul, rms_norm
from octavo_kernels.native.recording import Buffer, Recordings, lay_out, record
from octavo_kernels.quantized_linear import pack, quantized_linear
from octavo_kernels.quantized_linear.cases import random_groups

WIDTH = 96


@pytest.fixture(autouse=True)
def empty_memory_is_nan() -> Iterator[None]:
    """What a replay leaves unwritten, or reads before it is written, must show."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def chain(steps: int) -> Callable[[Tensor], Tensor]:
    """As a decoder's layers: a stream that each step adds to."""
    weight, bias = pack(*random_groups(4, 2 * WIDTH, WIDTH)), torch.randn(2 * WIDTH)
    norm = torch.rand(WIDTH)

    def compute(stream: Tensor) -> Tensor:
        hidden = rms_norm(stream, norm, 1e-5)
        for _ in range(steps):
            gated = gate_mul(quantized_linear(hidden, weight, bias), "silu")
            hidden, _ = add_rms_norm(gated, stream, norm, 1e-5, stream)
        return hidden

    return compute


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_replay_computes_what_the_calls_do(rows: int) -> None:
    compute, recordings = chain(3), Recordings()
    for _ in range(3):  # it is recorded, then replayed with other memory
        stream = torch.randn(rows, WIDTH)
        again = stream.clone()
        expected = compute(stream)
        assert recordings.run(compute, again).equal(expected)
        assert again.equal(stream)
        assert not expected.isnan().any()


def test_a_result_outlives_the_next_replay() -> None:
    compute, recordings = chain(1), Recordings()
    first = recordings.run(compute, torch.ones(2, WIDTH))
    kept = first.clone()
    assert not recordings.run(compute, torch.randn(2, WIDTH)).equal(kept)
    assert first.equal(kept)


def test_a_function_is_recorded_once_for_each_shape_and_type() -> None:
    compute, recordings, seen = chain(1), Recordings(), []

    def counted(stream: Tensor) -> Tensor:
        seen.append(stream.shape[0])
        return compute(stream)

    for stream in (torch.ones(1, WIDTH), torch.ones(2, WIDTH), torch.ones(1, WIDTH), torch.ones(2, WIDTH)):
        recordings.run(counted, stream)
    assert seen == [1, 2]


def test_rows_may_lie_apart_at_one_call_and_together_at_the_next() -> None:
    recordings, norm = Recordings(), torch.rand(WIDTH)
    apart = torch.randn(2, 2 * WIDTH)[:, WIDTH:]
    for x in (apart, apart.contiguous()):
        assert recordings.run(lambda x: rms_norm(x, norm, 1e-5), x).equal(rms_norm(apart, norm, 1e-5))


def test_parts_of_inputs_and_of_temporaries_are_found_where_they_lie() -> None:
    norm = torch.rand(WIDTH // 3)

    def compute(x: Tensor) -> Tensor:
        out = x.new_empty(3, *x.shape)
        for index, part in enumerate(x.split(WIDTH // 3, dim=1)):
            rms_norm(part, norm, 1e-5, out[index, :, WIDTH // 3 : 2 * WIDTH // 3])
        return rms_norm(out[1, :, WIDTH // 3 : 2 * WIDTH // 3], norm, 1e-5)

    x = torch.randn(4, WIDTH)
    assert Recordings().run(compute, x).equal(compute(x))


REFUSED = {
    "aten.relu": lambda x: rms_norm(x.relu(), x[0], 1e-5),
    "aten.mul_": lambda x: rms_norm(x.mul_(2), x[0], 1e-5),
    "aten.(clone|contiguous)": lambda x: rms_norm(x.t().contiguous(), x[0], 1e-5),
    "aten.(_to_copy|to)": lambda x: rms_norm(x.half(), x[0], 1e-5),
    "aten.empty.memory_format": lambda x: rms_norm(x, x[0], 1e-5, torch.empty(x.shape)),
    "aten.ones": lambda x: rms_norm(x, torch.ones(x.shape[1]), 1e-5),
    "aten.max": lambda x: rms_norm(x, x[int(x.max())], 1e-5),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("inference", [False, True])
def test_what_a_replay_would_leave_out_is_refused_by_name(name: str, inference: bool) -> None:
    with torch.inference_mode(inference), pytest.raises(NotImplementedError, match=rf"{name}.* cannot be recorded"):
        Recordings().run(REFUSED[name], torch.ones(2, 2))
    assert rms_norm(torch.ones(1, 4), torch.ones(4), 0.0).equal(torch.ones(1, 4))  # nothing is recorded any more


@pytest.mark.parametrize("compute", [lambda x: x, lambda x: x.new_empty(2)], ids=["input", "nothing"])
def test_a_result_that_no_loop_has_written_is_refused(compute: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="must return what one of its loops has written"):
        Recordings().run(compute, torch.ones(2, 2))


def test_temporaries_do_not_grow_with_the_number_of_steps() -> None:
    stream = torch.ones(4, WIDTH)
    sizes = {record(chain(steps), [stream]).size for steps in (2, 3, 40)}
    projected, hidden = 4 * 2 * WIDTH * 4, 4 * WIDTH * 4  # bytes
    assert sizes == {projected + 2 * hidden}


def test_memory_of_dead_buffers_is_used_again() -> None:
    buffers = [Buffer(64, 0, 1), Buffer(128, 1, 2), Buffer(60, 2, 3), Buffer(100, 3, 4)]
    assert lay_out(buffers) == 192
    assert [each.start for each in buffers] == [0, 64, 0, 64]


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 20), st.integers(0, 6))))
def test_buffers_that_live_at_once_lie_apart(drawn: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer(size, first, first + length) for size, first, length in sorted(drawn, key=lambda one: one[1])]
    size = lay_out(buffers)
    assert all(each.start % 64 == 0 and each.start + each.size <= size for each in buffers)
    for one, other in combinations(buffers, 2):
        together = one.first <= other.last and other.first <= one.last
        assert not together or one.start + one.size <= other.start or other.start + other.size <= one.start


def test_recording_imports_no_compiler() -> None:
    """torch's own takes seconds to import, in which the first answer would wait."""
    program = """
import sys, torch
from octavo_kernels import rms_norm
from octavo_kernels.native.recording import Recordings
weight = torch.ones(8)
Recordings().run(lambda x: rms_norm(x.view(1, 8), weight, 1e-5), torch.ones(8))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
