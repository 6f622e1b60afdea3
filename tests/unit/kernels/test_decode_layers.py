"""decode_layers against the ops that it consists of."""

from dataclasses import dataclass

import pytest
import torch

from octavo_kernels.decode_layers import PackedDecoder, PackedLayer, PackedProjection
from octavo_kernels.decode_layers.cpu import compile_decode_layers
from octavo_kernels.decode_layers.reference import decode_layers
from octavo_kernels.quantized_linear import pack
from octavo_kernels.quantized_linear.cases import random_groups

BLOCK, BLOCKS = 16, 40


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int


SHAPES = {
    "smollm2": Shape(2, 576, 9, 3, 64, 1536),
    "one kv head": Shape(3, 96, 4, 1, 24, 64),
    "no grouping": Shape(1, 64, 4, 4, 16, 160),
    "odd head": Shape(2, 160, 2, 1, 80, 96),
}


def projection(bits: int, out: int, width: int, seed: int, biased: bool) -> PackedProjection:
    values, scales, minimums = random_groups(bits, out, width)
    shift = -8 * scales if minimums is not None else None
    small = 0.2 / width**0.5 / (1 if bits == 4 else 16)
    bias = torch.randn(out, generator=torch.Generator().manual_seed(seed)) if biased else None
    return PackedProjection(pack(values, scales * small, None if shift is None else shift * small), bias)


def random_decoder(shape: Shape, bits: tuple[int, ...], biased: bool) -> PackedDecoder:
    """`bits`: of the four projections of each layer in turn."""
    generator = torch.Generator().manual_seed(7)
    width, heads = shape.heads * shape.head_dim, shape.heads + 2 * shape.kv_heads

    def norm() -> torch.Tensor:
        return (1 + torch.randn(shape.hidden, generator=generator) / 4).bfloat16()

    layers = [
        PackedLayer(
            attention_norm=norm(),
            qkv=projection(bits[0], heads * shape.head_dim, shape.hidden, layer, biased),
            output=projection(bits[1], shape.hidden, width, layer + 10, biased),
            mlp_norm=norm(),
            gate_up=projection(bits[2], 2 * shape.inner, shape.hidden, layer + 20, biased),
            down=projection(bits[3], shape.hidden, shape.inner, layer + 30, biased),
        )
        for layer in range(shape.layers)
    ]
    angles = torch.rand(BLOCK * BLOCKS, shape.head_dim // 2, generator=generator) * 6
    return PackedDecoder(layers, norm(), torch.cat((angles.cos(), angles.sin()), dim=-1), shape.heads, 1e-5)


LENGTHS = ([1], [40], [3, 200], [5, 17, 1], [90, 33, 32, 31])
DTYPES = (torch.bfloat16, torch.float32, torch.float16)
WEIGHTS = (((4, 4, 4, 4), False), ((8, 4, 4, 8), True))  # bits of the projections; whether they have a bias
# All shapes with all lengths, in each of which types and weights take turns.
CASES = [
    pytest.param(shape, lengths, *WEIGHTS[(row + column) % 2], DTYPES[(row + column) % 3], id=f"{name}-{lengths}")
    for row, (name, shape) in enumerate(SHAPES.items())
    for column, lengths in enumerate(LENGTHS)
]


@pytest.mark.parametrize(("shape", "lengths", "bits", "biased", "dtype"), CASES)
def test_it_computes_what_the_ops_do(
    shape: Shape, lengths: list[int], bits: tuple[int, ...], biased: bool, dtype: torch.dtype
) -> None:
    decoder = random_decoder(shape, bits, biased)
    generator = torch.Generator().manual_seed(len(lengths))
    cache = torch.full((shape.layers, 2, BLOCKS, BLOCK, shape.kv_heads, shape.head_dim), torch.nan, dtype=dtype)
    tables = torch.randperm(BLOCKS, generator=generator)[: len(lengths) * 13].view(len(lengths), -1).int()
    if len(lengths) == 4:
        tables = torch.randperm(BLOCKS, generator=generator).view(4, -1).int()
    seq_lens = torch.tensor(lengths, dtype=torch.int32)
    positions = seq_lens.long() - 1
    for table, length in zip(tables.long(), lengths, strict=True):
        known = torch.arange(length - 1)
        for layer in cache:
            for part in layer:
                content = torch.randn(length - 1, *part.shape[2:], generator=generator)
                part[table[known // BLOCK], known % BLOCK] = content.to(dtype)
    slots = tables.long().gather(1, (positions // BLOCK).unsqueeze(1)).squeeze(1) * BLOCK + positions % BLOCK
    residual = torch.randn(len(lengths), shape.hidden, generator=generator)
    expected_cache = cache.clone()
    expected = decode_layers(decoder, residual.clone(), positions, slots, tables, seq_lens, expected_cache)
    found = compile_decode_layers(decoder)(residual, positions, slots, tables, seq_lens, cache)
    tolerance = 3e-2 if dtype is torch.bfloat16 else 4e-3 if dtype is torch.float16 else 5e-4
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(cache, expected_cache, rtol=tolerance, atol=tolerance, equal_nan=True)
