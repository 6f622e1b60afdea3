"""experts: every form against the oracle."""

from importlib import import_module
from typing import Any

import pytest
import torch

from octavo_kernels.experts import PackedWeights, StackedGroups, Weights, cpu
from octavo_kernels.experts.cases import CASES, GROUPED_CASES, TINY_CASES, TOLERANCES, Case, error
from octavo_kernels.grouped_linear import GroupedWeights

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.experts, case, dtype, "cpu") <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", GROUPED_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_weights_in_groups(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.experts, case, dtype, "cpu") <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"experts/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.experts import triton

    assert error(triton.experts, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_hopper(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.experts import hopper

    def where_it_fits(*arguments: Any) -> torch.Tensor:
        if not hopper.fits(*arguments[:3]):
            pytest.skip("there is no such form")
        return hopper.experts(*arguments)

    assert error(where_it_fits, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.parametrize(
    ("narrow", "pairs", "among", "suits"),
    [
        (False, 110, None, False),
        (False, 128, None, True),
        (True, 110, None, True),
        (True, 100, None, False),
        # Half of the experts are elsewhere, and half of the pairs.
        (False, 255, 16, False),
        (False, 256, 16, True),
        (True, 220, 16, True),
        (True, 200, 16, False),
    ],
)
def test_hopper_is_for_narrow_weights_and_many_rows(narrow: bool, pairs: int, among: int | None, suits: bool) -> None:
    from octavo_kernels.experts import hopper

    def weights(rows: int) -> Weights:
        if not narrow:
            return torch.empty(8, rows, 512, dtype=torch.bfloat16)
        blocks, scales = (torch.empty(8, rows, 512 // each, dtype=torch.uint8) for each in (2, 32))
        return PackedWeights(blocks, scales)

    hidden = torch.empty(1, 512, dtype=torch.bfloat16)
    assert hopper.suits(hidden, weights(1024), weights(512), pairs, among) == suits


@pytest.mark.parametrize("name", ["triton", "hopper"])
@pytest.mark.parametrize(("among", "rows"), [(None, 32.0), (4, 32.0), (16, 8.0)])
def test_tiles_are_for_the_rows_that_come_to_an_expert_here(
    monkeypatch: pytest.MonkeyPatch, name: str, among: int | None, rows: float
) -> None:
    form = import_module(f"octavo_kernels.experts.{name}")
    asked: list[float] = []

    def tile(*arguments: Any) -> None:
        asked.extend(each for each in arguments if isinstance(each, float))
        raise _Chosen

    monkeypatch.setattr(form, "_tile", tile)
    hidden, ids, weights = torch.zeros(64, 64, dtype=torch.bfloat16), torch.zeros(64, 2).long(), torch.zeros(64, 2)
    gate_up, down = hidden.new_zeros(4, 128, 64), hidden.new_zeros(4, 64, 64)
    with pytest.raises(_Chosen):
        form.experts(hidden, gate_up, down, ids, weights, None, None, None, among)
    assert asked == [rows]


class _Chosen(Exception):
    """Nothing is to be launched."""


@pytest.mark.parametrize(("width", "fits"), [(48, True), (52, False), (42, False)])
def test_hopper_copies_rows_of_whole_16_bytes(width: int, fits: bool) -> None:
    from octavo_kernels.experts import hopper

    scales = torch.empty(96, 1, dtype=torch.float16)
    gate_up = StackedGroups(GroupedWeights(torch.empty(96, width, dtype=torch.int8), scales, (1, width)), 2)
    hidden, down = torch.empty(1, width, dtype=torch.bfloat16), torch.empty(2, width, 24, dtype=torch.bfloat16)
    assert hopper.fits(hidden, gate_up, down) == fits


@pytest.mark.gpu
def test_captured_it_follows_the_router_and_brings_the_same_bits() -> None:
    from octavo_kernels.experts import triton

    generator = torch.Generator("cuda").manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device="cuda", dtype=torch.bfloat16)

    hidden, gate_up, down = random(40, 64), random(6, 96, 64), random(6, 64, 48)
    weights = torch.rand(40, 2, generator=generator, device="cuda")
    ids = torch.zeros(40, 2, dtype=torch.int64, device="cuda")
    triton.experts(hidden, gate_up, down, ids, weights)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = triton.experts(hidden, gate_up, down, ids, weights)
    for _ in range(3):
        ids.copy_(torch.rand(40, 6, generator=generator, device="cuda").topk(2).indices)
        graph.replay()
        assert torch.equal(captured, triton.experts(hidden, gate_up, down, ids, weights))
