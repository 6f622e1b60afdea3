"""Attention of 64 queries to one run of 128 keys, in Gluon; the inner loop of paged_prefill's kernel for Hopper."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, warpgroup_mma, warpgroup_mma_wait


@gluon.jit
def attend_run(
    index,
    query,
    keys,
    values,
    weighted,
    weights,
    row_max,
    row_sum,
    scale_log2,
    position,
    run,
    MASKED: gl.constexpr,
    STAGES: gl.constexpr,
    product: gl.constexpr,
    operand: gl.constexpr,
):
    """Multiplies the scores of a run while the values of the one before it are added, whose `weights` are given.

    index: of the run among all that the program takes; run: within its tile. query: [64, 128] in shared memory; keys,
    values: [STAGES, 128, 128] there, and their barriers, see `copy_all`. weighted: [64, 128] float32; weights: [64,
    128], in the query's type; row_max, row_sum: [64] float32; position: [64] int32, of the queries, looked at only if
    MASKED.
    Returns (weighted, weights, row_max, row_sum)."""
    k_shared, k_ready, k_free = keys
    v_shared, v_ready, v_free = values
    stage = index % STAGES
    before = index - 1
    stage_before = before % STAGES
    mbarrier.wait(k_ready.index(stage), (index // STAGES) & 1)
    nothing = gl.zeros([64, 128], gl.float32, layout=product)
    scores_token = warpgroup_mma(query, k_shared.index(stage).permute((1, 0)), nothing, use_acc=False, is_async=True)
    mbarrier.wait(v_ready.index(stage_before), (before // STAGES) & 1)
    weighted_token = warpgroup_mma(weights, v_shared.index(stage_before), weighted, is_async=True)
    scores = warpgroup_mma_wait(1, deps=[scores_token])
    mbarrier.arrive(k_free.index(stage), count=1)
    if MASKED:
        key = run * 128 + gl.arange(0, 128, layout=gl.SliceLayout(0, product))
        scores = gl.where(key[None, :] <= position[:, None], scores, -1.0e30)
    new_max = gl.maximum(row_max, gl.max(scores, 1))
    exponentials = gl.exp2(scores * scale_log2 - (new_max * scale_log2)[:, None])
    correction = gl.exp2((row_max - new_max) * scale_log2)
    row_sum = row_sum * correction + gl.sum(exponentials, 1)
    new_weights = gl.convert_layout(exponentials.to(weights.dtype), operand)
    weighted, weights = warpgroup_mma_wait(0, deps=[weighted_token, weights])
    mbarrier.arrive(v_free.index(stage_before), count=1)
    return weighted * correction[:, None], new_weights, new_max, row_sum
