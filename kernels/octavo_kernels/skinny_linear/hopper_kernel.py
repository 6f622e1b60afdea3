"""The kernel of skinny_linear for Hopper, in Gluon; `hopper` says how it is made, and launches it."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo_kernels.gate_mul.triton import gated
from octavo_kernels.hopper_products import summed


@gluon.jit
def _ask_for_weights(weight, first, columns, depth, ready, place, COLUMNS: gl.constexpr, GATED: gl.constexpr):
    """COLUMNS rows of the weight from `first` on, or, GATED, half as many and the same rows of its second half."""
    if GATED:
        HALF: gl.constexpr = COLUMNS // 2
        tma.async_copy_global_to_shared(weight, [first, depth], ready, place.slice(0, HALF, dim=0))
        tma.async_copy_global_to_shared(weight, [columns + first, depth], ready, place.slice(HALF, HALF, dim=0))
    else:
        tma.async_copy_global_to_shared(weight, [first, depth], ready, place)


@gluon.jit
def _with_bias(sums, bias, first, columns, layout: gl.constexpr):
    column = first + gl.arange(0, sums.shape[0], layout=gl.SliceLayout(1, layout))
    return sums + gl.load(bias + column, mask=column < columns, other=0.0).to(gl.float32)[:, None]


@gluon.jit(do_not_specialize=["rows"])
def skinny_kernel(
    x,
    weight,
    bias,
    out,
    partials,
    arrivals,
    rows,
    columns,
    steps,
    BIAS: gl.constexpr,
    GATE: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    DEPTH: gl.constexpr,
    SPLITS: gl.constexpr,
    STAGES: gl.constexpr,
):
    """out = x @ weight.T + bias, summed in float32, or of such sums, GATE(first half) * second half. Grid:
    (ceil(columns / tile) * SPLITS,) for tiles of COLUMNS columns, or with a GATE of half as many.

    x: a descriptor of [rows, width], in tiles of [ROWS, DEPTH]; weight: of [columns, width], with a GATE of [2 *
    columns, width], in tiles of [tile, DEPTH]; both of one 16-bit type. bias: as many as the weight has rows, read if
    BIAS; out: [rows, columns]; both of that type, contiguous. GATE: an activation of gate_mul, or "".
    partials: [programs, COLUMNS, ROWS] float32; arrivals: [programs / SPLITS] int32, 0 before and after; used if SPLITS
    > 1. steps: tiles of DEPTH columns that a program reads. ROWS: rows, up to 8, 16, 32 or 64. STAGES: of the ring."""
    program = gl.program_id(0)
    tile = program // SPLITS
    GATED: gl.constexpr = GATE != ""
    TILE: gl.constexpr = COLUMNS // 2 if GATED else COLUMNS
    first = tile * TILE
    begin = program % SPLITS * steps * DEPTH
    element: gl.constexpr = weight.dtype
    weights = gl.allocate_shared_memory(element, [STAGES, COLUMNS, DEPTH], weight.layout)
    inputs = gl.allocate_shared_memory(element, [STAGES, ROWS, DEPTH], x.layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
    fence_async_shared()
    # The weights do not wait for the kernel in front.
    for stage in gl.static_range(STAGES):
        if stage < steps:
            mbarrier.expect(ready.index(stage), (COLUMNS + ROWS) * DEPTH * 2)
            depth = begin + stage * DEPTH
            _ask_for_weights(weight, first, columns, depth, ready.index(stage), weights.index(stage), COLUMNS, GATED)
    gdc_launch_dependents()
    gdc_wait()
    for stage in gl.static_range(STAGES):
        if stage < steps:
            tma.async_copy_global_to_shared(x, [0, begin + stage * DEPTH], ready.index(stage), inputs.index(stage))

    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, ROWS, 16])
    sums = gl.zeros([COLUMNS, ROWS], gl.float32, layout=layout)
    for step in range(steps):
        place = step % STAGES
        mbarrier.wait(ready.index(place), (step // STAGES) & 1)
        product = warpgroup_mma(weights.index(place), inputs.index(place).permute((1, 0)), sums, is_async=True)
        sums = warpgroup_mma_wait(0, deps=[product])
        if step + STAGES < steps:
            depth = begin + (step + STAGES) * DEPTH
            mbarrier.expect(ready.index(place), (COLUMNS + ROWS) * DEPTH * 2)
            _ask_for_weights(weight, first, columns, depth, ready.index(place), weights.index(place), COLUMNS, GATED)
            tma.async_copy_global_to_shared(x, [0, depth], ready.index(place), inputs.index(place))

    sums, last = summed(sums, partials, arrivals, program, tile, COLUMNS, ROWS, SPLITS, layout)
    if last:
        if GATED:
            gate, up = gl.split(sums.reshape([2, TILE, ROWS]).permute((1, 2, 0)))
            gate = gl.convert_layout(gate, layout)
            up = gl.convert_layout(up, layout)
            if BIAS:
                gate = _with_bias(gate, bias, first, columns, layout)
                up = _with_bias(up, bias + columns, first, columns, layout)
            result = gated(gate, up, GATE)
        elif BIAS:
            result = _with_bias(sums, bias, first, columns, layout)
        else:
            result = sums
        column = first + gl.arange(0, TILE, layout=gl.SliceLayout(1, layout))
        row = gl.arange(0, ROWS, layout=gl.SliceLayout(0, layout))
        there = (row < rows)[None, :] & (column < columns)[:, None]
        gl.store(out + row[None, :] * columns + column[:, None], result.to(element), mask=there)
