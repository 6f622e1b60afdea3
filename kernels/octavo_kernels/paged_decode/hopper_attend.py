"""Attention of a pack's queries to one tile of keys, in Triton; the inner loop of paged_decode's kernel for Hopper.

Keys and values of 8 bits are read as words of two numbers, which the matrix units' own loads take as they take numbers
of 16 bits. In registers a word becomes two numbers in float16, which holds every such number; the even columns and the
odd ones are multiplied apart. Scales are the caller's.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl

from octavo_kernels.eight_bits_kernels import PLAIN as STORED_PLAIN
from octavo_kernels.eight_bits_kernels import in_float16, widened_pairs

PLAIN = tl.constexpr(STORED_PLAIN)
ROWS = tl.constexpr(16)  # query heads of a pack and a KV head; the least that tl.dot takes


@triton.jit
def load_query(rows, row_mask, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr, KIND: tl.constexpr):
    """The queries at pointers `rows` [ROWS], 0 where row_mask is false and beyond HEAD_DIM: ([ROWS, PADDED_DIM],) in
    their own type, or for a cache of 8 bits the even columns and the odd ones, both [ROWS, PADDED_DIM / 2] float16;
    what that does not reach to is its largest number."""
    APART: tl.constexpr = 1 if KIND == PLAIN else 2
    dim = tl.arange(0, PADDED_DIM // APART) * APART
    pointers = rows[:, None] + dim[None, :]
    mask = row_mask[:, None] & (dim < HEAD_DIM)[None, :]
    first = tl.load(pointers, mask=mask, other=0.0)
    return (first,) if KIND == PLAIN else (in_float16(first), in_float16(tl.load(pointers + 1, mask=mask, other=0.0)))


@triton.jit
def numbers_of(words, KIND: tl.constexpr, NATIVE: tl.constexpr):
    """A tile of the cache's words as the matrix units take it: (words,) or (even, odd). NATIVE: see `widened_pairs`."""
    return (words,) if KIND == PLAIN else widened_pairs(words, KIND, NATIVE)


@triton.jit
def scored(query, key, KIND: tl.constexpr, NATIVE: tl.constexpr):
    """[ROWS, TILE] float32: the products of queries, of `load_query`, and keys, [TILE, words] of the cache's. NATIVE:
    see `numbers_of`."""
    keys = numbers_of(tl.trans(key), KIND, NATIVE)
    scores = tl.dot(query[0], keys[0], input_precision="ieee")
    if KIND != PLAIN:
        scores = tl.dot(query[1], keys[1], scores)
    return scores


@triton.jit
def nothing_weighted(PADDED_DIM: tl.constexpr, KIND: tl.constexpr):
    """For `with_values` at first."""
    columns = tl.zeros([ROWS, PADDED_DIM if KIND == PLAIN else PADDED_DIM // 2], tl.float32)
    return (columns,) if KIND == PLAIN else (columns, columns)


@triton.jit
def with_values(weighted, correction, weights, value, KIND: tl.constexpr, NATIVE: tl.constexpr):
    """The weighted values so far, times correction [ROWS], and those with weights [ROWS, TILE] float32: ([ROWS,
    PADDED_DIM],) float32, or of a cache of 8 bits the even columns and the odd ones. value: [TILE, words] of the
    cache's. NATIVE: see `numbers_of`."""
    values = numbers_of(value, KIND, NATIVE)
    weights = weights.to(values[0].dtype)
    first = tl.dot(weights, values[0], weighted[0] * correction[:, None], input_precision="ieee")
    return (first,) if KIND == PLAIN else (first, tl.dot(weights, values[1], weighted[1] * correction[:, None]))


@triton.jit
def in_order(weighted, KIND: tl.constexpr):
    """[ROWS, PADDED_DIM] float32, of what `with_values` returns."""
    columns = weighted[0]
    if KIND != PLAIN:
        columns = tl.join(columns, weighted[1]).reshape([ROWS, 2 * columns.shape[1]])
    return columns
