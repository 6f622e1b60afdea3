"""skinny_linear against the oracle, and how it cuts products."""

import pytest
import torch

from octavo_kernels.skinny_linear import MOST_ROWS, fits, hopper, skinny_linear
from octavo_kernels.skinny_linear.cases import (
    ADD_CASES,
    CASES,
    HEADS_CASES,
    HEADS_TOLERANCES,
    TOLERANCES,
    AddCase,
    Case,
    HeadsCase,
    error,
    error_of_heads,
    error_of_sums,
)


@pytest.mark.gpu
@pytest.mark.usefixtures("hopper_gpu")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_hopper(case: Case, dtype: torch.dtype) -> None:
    assert error(skinny_linear, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.usefixtures("hopper_gpu")
@pytest.mark.parametrize("case", ADD_CASES, ids=str)
def test_sums_with_the_stream_on_hopper(case: AddCase) -> None:
    assert error_of_sums(hopper.skinny_add_linear, case, "cuda") <= HEADS_TOLERANCES[torch.bfloat16]


@pytest.mark.gpu
@pytest.mark.usefixtures("hopper_gpu")
@pytest.mark.parametrize("case", HEADS_CASES, ids=str)
@pytest.mark.parametrize("dtype", HEADS_TOLERANCES, ids=str)
def test_heads_turned_on_hopper(case: HeadsCase, dtype: torch.dtype) -> None:
    assert error_of_heads(hopper.skinny_rotary_write_kv, case, dtype, "cuda") <= HEADS_TOLERANCES[dtype]


@pytest.mark.parametrize("rows", [8, 16, 32, 64])
@pytest.mark.parametrize("columns", [1, 576, 4096, 4160, 6144, 8448, 28672, 67584, 67648, 128_256, 262_144])
@pytest.mark.parametrize("width", [64, 4096, 14336])
def test_a_product_is_cut_to_what_a_processor_holds(rows: int, columns: int, width: int) -> None:
    processors, shared_memory = 132, 227 << 10
    cut = hopper.tiling(rows, columns, width, processors)
    assert cut.stages * (cut.columns + rows) * hopper.DEPTH * 2 < shared_memory - 1024
    if cut.splits > 1:  # what is left for each other has room for so many
        tiles = -(-columns // cut.columns)
        assert tiles <= processors
        assert tiles * cut.splits * cut.columns * rows <= processors * 64 * MOST_ROWS


def test_there_is_none_for_a_cpu() -> None:
    assert not fits(torch.empty(64, 64, dtype=torch.bfloat16))
