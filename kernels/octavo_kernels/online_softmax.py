"""Attention of one tile of query rows over a paged context, in Triton; the inner loop of decode and of prefill.

The softmax is computed online (Milakov and Gimelshein, 2018; FlashAttention, Dao et al., 2022): the loop carries, for
each query row, the largest score so far, the sum of the exponentials and the weighted sum of the values.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl

from octavo_kernels.eight_bits_kernels import widened

# The softmax is taken to base 2, for which GPUs have an instruction: scores are scaled by this too.
LOG2_E = 1.4426950408889634
_LOG2_E = tl.constexpr(LOG2_E)
# Stands for minus infinity. It is finite because inf - inf, in a row that has seen no key yet, would be NaN.
HIDDEN = tl.constexpr(-1.0e30)


@triton.jit
def load_rows(pointer, row_offsets, row_mask, MASKED: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr):
    """[rows, PADDED_DIM], in the pointer's type, of the rows of HEAD_DIM elements at row_offsets [rows], in elements; 0
    beyond HEAD_DIM and, if MASKED, where row_mask [rows] is false."""
    dim = tl.arange(0, PADDED_DIM)
    pointers = pointer + row_offsets[:, None] + dim[None, :]
    if PADDED_DIM != HEAD_DIM:
        if MASKED:
            rows = tl.load(pointers, mask=row_mask[:, None] & (dim < HEAD_DIM)[None, :], other=0)
        else:
            rows = tl.load(pointers, mask=(dim < HEAD_DIM)[None, :], other=0)
    elif MASKED:
        rows = tl.load(pointers, mask=row_mask[:, None], other=0)
    else:
        rows = tl.load(pointers)
    return rows


@triton.jit
def begin(ROWS: tl.constexpr, PADDED_DIM: tl.constexpr):
    """(weighted, row_max, row_sum) of an online softmax that has seen no key yet: see `attend`."""
    return (
        tl.zeros([ROWS, PADDED_DIM], tl.float32),
        tl.full([ROWS], HIDDEN, tl.float32),
        tl.zeros([ROWS], tl.float32),
    )


@triton.jit
def begin_with_sinks(sinks, head, row_mask, ROWS: tl.constexpr, PADDED_DIM: tl.constexpr):
    """`begin`, and then the sink of each row's head. sinks: pointer to [heads] float32, or None; head, row_mask:
    [ROWS]."""
    weighted, row_max, row_sum = begin(ROWS, PADDED_DIM)
    if sinks is not None:
        row_max = tl.load(sinks + head, mask=row_mask, other=0.0) * _LOG2_E
        row_sum += 1.0
    return weighted, row_max, row_sum


@triton.jit
def load_slopes(slopes, head, row_mask):
    """For `attend`, of each row's head. slopes: pointer to [heads] float32, or None; head, row_mask: [rows]."""
    loaded = slopes
    if slopes is not None:
        loaded = tl.load(slopes + head, mask=row_mask, other=0.0) * _LOG2_E
    return loaded


@triton.jit
def _readable(position, first, end, HAS_FIRST: tl.constexpr):
    """Whether positions [...] are below `end` and, if HAS_FIRST, none of those in front of `first`."""
    readable = position < end
    if HAS_FIRST:
        readable &= position >= first
    return readable


@triton.jit
def attend(
    softmax,  # of `begin` or of the last call
    query,  # [ROWS, PADDED_DIM], in the cache's type unless that has 8 bits, 0 beyond HEAD_DIM
    last_visible,  # [ROWS] int: the last position that a row may see; looked at only if MASKED or with slopes
    cache,  # LayerCache
    kv_head,
    block_table,  # pointer to this sequence's row, int32
    start,  # positions start..end - 1 are attended to; unless MASKED, a whole number of tiles
    end,
    scale_log2,  # score scale * LOG2_E
    slopes,  # of `load_slopes`: [ROWS] float32, or None
    MASKED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,  # positions in one iteration
    STAGES: tl.constexpr,
    WINDOW: tl.constexpr,  # positions that a row may see, up to its last one; 0: all; looked at only if MASKED
    SOFTCAP: tl.constexpr,  # of the scores; 0: none
    KIND: tl.constexpr = 0,  # how the cache's numbers are stored, see eight_bits_kernels
    CAUSAL: tl.constexpr = True,  # else a row sees what follows it too, up to `end`, and in a window to both sides
):
    """Goes on with an online softmax over positions start..end - 1, for one program of any grid.

    Returns (weighted, row_max, row_sum): [ROWS, PADDED_DIM] float32, sum of exp2(score - row_max) * value; [ROWS]
    float32, in units of log2; [ROWS] float32, sum of exp2(score - row_max). Attention is weighted / row_sum."""
    weighted, row_max, row_sum = softmax
    key_head = cache.k + kv_head * cache.stride_head
    value_head = cache.v + kv_head * cache.stride_head
    first_visible = start
    if MASKED and WINDOW != 0:
        first_visible = tl.min(last_visible, 0) - WINDOW + 1
    # Block ids are loaded one iteration ahead and carried: loaded in the iteration that uses them, they are a second
    # level of indirection, for which the software pipeline gives up stages.
    position = start + tl.arange(0, TILE)
    readable = _readable(position, first_visible, end, MASKED and WINDOW != 0)
    block = tl.load(block_table + position // BLOCK_SIZE, mask=readable, other=0)
    for tile_start in tl.range(start, end, TILE, num_stages=STAGES):
        position = tile_start + tl.arange(0, TILE)
        # 64 bits: a cache may hold more than 2**31 elements.
        offsets = block.to(tl.int64) * cache.stride_block + (position % BLOCK_SIZE) * cache.stride_slot
        # Slots beyond the sequence, or behind all windows, may hold anything: their weight is 0, and 0 * NaN would be
        # NaN.
        readable = _readable(position, first_visible, end, MASKED and WINDOW != 0)
        key = widened(load_rows(key_head, offsets, readable, MASKED, HEAD_DIM, PADDED_DIM), query, KIND)
        value = widened(load_rows(value_head, offsets, readable, MASKED, HEAD_DIM, PADDED_DIM), query, KIND)
        following = position + TILE
        block = tl.load(block_table + following // BLOCK_SIZE, mask=following < end, other=0)

        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale_log2
        if SOFTCAP != 0:
            # tanh(x) = 2 * sigmoid(2 * x) - 1, of scores in units of log2.
            CAP: tl.constexpr = SOFTCAP * _LOG2_E
            scores = CAP * (2 * tl.sigmoid(scores * (2 / CAP)) - 1)
        if slopes is not None:
            scores += slopes[:, None] * (position[None, :] - last_visible[:, None])
        if MASKED:
            if CAUSAL:
                scores = tl.where(position[None, :] <= last_visible[:, None], scores, HIDDEN)
            else:
                scores = tl.where((position < end)[None, :], scores, HIDDEN)
                if WINDOW != 0:
                    scores = tl.where(position[None, :] < last_visible[:, None] + WINDOW, scores, HIDDEN)
            if WINDOW != 0:
                scores = tl.where(position[None, :] > last_visible[:, None] - WINDOW, scores, HIDDEN)
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        weights = tl.exp2(scores - new_max[:, None])
        correction = tl.exp2(row_max - new_max)
        row_sum = row_sum * correction + tl.sum(weights, 1)
        weighted = tl.dot(weights.to(value.dtype), value, acc=weighted * correction[:, None], input_precision="ieee")
        row_max = new_max
    return weighted, row_max, row_sum
