"""Blocks of GGUF's types on random bits, against the gguf package and against their packed form."""

import gguf
import pytest
import torch
from random_gguf import random_rows

from octavo_kernels.grouped_linear.reference import dequantize
from octavo_kernels.quantized_linear import pack, unpacked_rows
from octavo_runtime.layers.grouped_weights import grouped_weights
from octavo_runtime.quantization.gguf_blocks import PACKED, quantized_matrix
from octavo_runtime.quantization.gguf_sizes import BLOCKS
from octavo_runtime.quantization.quantized_matrix import QuantizedRows, concatenate


@pytest.mark.parametrize("kind", PACKED)
def test_blocks_mean_what_the_gguf_package_says_to_the_last_bit(kind: str) -> None:
    data = random_rows(kind)
    matrix = quantized_matrix(kind, data)
    assert matrix is not None
    expected = torch.from_numpy(gguf.dequantize(data, gguf.GGMLQuantizationType[kind]))
    assert matrix.dequantize().equal(expected)
    order = torch.tensor([6, 0, 3])
    assert matrix.rows(order).dequantize().equal(expected[order])
    packed = pack(matrix.values, matrix.scales, matrix.minimums, matrix.format, matrix.factors)
    unpacked = unpacked_rows(packed, torch.arange(7))
    torch.testing.assert_close(unpacked, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    columns, size = BLOCKS[kind]
    assert packed.data.nbytes == 32 * 512 // columns * size, "as it is planned for"


@pytest.mark.parametrize("kind", PACKED)
def test_a_gpus_form_means_the_same_to_the_last_bit(kind: str) -> None:
    data = random_rows(kind)
    matrix = quantized_matrix(kind, data)
    assert matrix is not None
    expected = torch.from_numpy(gguf.dequantize(data, gguf.GGMLQuantizationType[kind]))
    weight = grouped_weights(matrix, torch.device("cpu"))
    assert dequantize(weight).equal(expected)
    assert weight.shape == (7, 512)
    assert dequantize(weight.rows(2, 3)).equal(expected[2:5])
    columns, size = BLOCKS[kind]
    book = 0 if weight.codebook is None else weight.codebook.nbytes
    assert weight.nbytes == 7 * 512 // columns * size + book, "as it is planned for"


@pytest.mark.parametrize("kind", PACKED)
def test_columns_of_whole_blocks_are_a_matrix_too(kind: str) -> None:
    matrix = quantized_matrix(kind, random_rows(kind))
    assert matrix is not None
    half = matrix.columns(256, 256)
    assert half is not None
    assert half.dequantize().equal(matrix.dequantize()[:, 256:])
    assert matrix.columns(16, 256) is None
    assert (matrix.columns(32, 64) is None) == (BLOCKS[kind][0] == 256)


@pytest.mark.parametrize("kind", PACKED)
def test_rows_of_blocks_stand_under_each_other(kind: str) -> None:
    first, second = quantized_matrix(kind, random_rows(kind, 3)), quantized_matrix("Q8_0", random_rows("Q8_0", 2))
    both = concatenate([first, first])
    assert both.dequantize().equal(first.dequantize().repeat(2, 1))
    mixed = concatenate([first, second])
    assert isinstance(mixed, QuantizedRows) == (kind != "Q8_0")
    assert mixed.shape == (5, 512)
    expected = torch.cat((first.dequantize(), second.dequantize()))
    assert mixed.dequantize().equal(expected)
    order = torch.tensor([2, 0, 1, 4, 3])
    assert mixed.rows(order).dequantize().equal(expected[order])


def test_scales_beyond_float16_are_no_groups() -> None:
    data = random_rows("MXFP4")
    data[0, 0] = 200
    assert quantized_matrix("MXFP4", data) is None
