"""Numbers of a checkpoint that are none."""

import pytest
import torch

from octavo_runtime.models.loading.finite import check_finite
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix, quantize_rows


def matrix() -> GroupedMatrix:
    return quantize_rows(torch.arange(32.0).view(4, 8) - 16, "fp8")


def test_fp8_may_have_all_bits_of_a_number_but_those_of_nan() -> None:
    stored = matrix()
    check_finite("weight", stored)
    for bits in (0x7F, 0xFF):
        stored.values.view(torch.uint8)[1, 2] = bits
        with pytest.raises(UnsupportedModel, match="weight must hold finite numbers"):
            check_finite("weight", stored)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_sparse_numbers_are_looked_at(number: float) -> None:
    outliers = torch.sparse_coo_tensor(torch.tensor([[0, 1], [2, 3]]), torch.tensor([1.0, number]), (4, 8))
    for stored in (outliers, outliers.to_sparse_csr()):
        with pytest.raises(UnsupportedModel, match="weight must hold finite numbers"):
            check_finite("weight", stored)
