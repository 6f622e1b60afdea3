"""Tensors of a checkpoint arrive as they are, whatever way they take."""

import pytest
import torch

from octavo_runtime.models.loading.placing import placed_rows

CPU = torch.device("cpu")


def test_on_a_cpu_one_part_is_not_copied() -> None:
    part = torch.randn(3, 4)
    assert placed_rows([part], CPU, torch.bfloat16) is part


def test_on_a_cpu_parts_lie_one_under_another() -> None:
    parts = [torch.randn(3, 4), torch.randn(2, 4)]
    assert placed_rows(parts, CPU, torch.float32).equal(torch.cat(parts))


@pytest.mark.gpu
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("rows", [[3], [5, 3], [9000, 1, 4097], [20_000]], ids=str)
def test_rows_reach_a_gpu(rows: list[int], stored: torch.dtype) -> None:
    parts = [torch.randn(count, 1031).to(stored) for count in rows]
    placed = placed_rows(parts, torch.device("cuda"), torch.bfloat16)
    assert placed.device.type == "cuda"
    assert placed.cpu().equal(torch.cat(parts).bfloat16())


@pytest.mark.gpu
def test_memory_that_kernels_still_read_is_not_overwritten() -> None:
    size = 4096
    part = torch.ones(size, size, dtype=torch.bfloat16)
    for _ in range(3):
        zeros = torch.zeros(size, size, dtype=torch.bfloat16, device="cuda")
        product = zeros
        for _ in range(40):
            product = product @ zeros
        read_late = zeros.sum()
        del zeros
        placed = placed_rows([part], torch.device("cuda"), torch.bfloat16)
        assert read_late.item() == 0
        assert placed.sum(dtype=torch.float64).item() == size * size
