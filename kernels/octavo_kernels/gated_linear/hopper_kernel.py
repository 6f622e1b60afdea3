"""The kernel of gated_linear for Hopper, in Gluon; `hopper` says how it is made, and launches it."""

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

FIRST, SECOND = gl.constexpr(0), gl.constexpr(1)  # the halves of a tile's rows


@gluon.jit
def _tile(number, row_tiles, column_tiles, band_tiles, ROWS: gl.constexpr, TILE: gl.constexpr):
    """The first row and the first gate of a tile. Those of `band_tiles` tiles of rows follow each other column by
    column, so that the second cache holds what programs read at about the same time."""
    band = number // (band_tiles * column_tiles) * band_tiles
    within = number % (band_tiles * column_tiles)
    high = gl.minimum(row_tiles - band, band_tiles)
    return (band + within % high) * ROWS, within // high * TILE


@gluon.jit
def _ask_for_weights(weight, first, apart, depth, ready, place, BYTES: gl.constexpr):
    """Gates from row `first` of the weight on, and as many rows that are `apart` from them. BYTES: of the stage."""
    HALF: gl.constexpr = place.shape[0] // 2
    mbarrier.expect(ready, BYTES)
    tma.async_copy_global_to_shared(weight, [first, depth], ready, place.slice(0, HALF, dim=0))
    tma.async_copy_global_to_shared(weight, [first + apart, depth], ready, place.slice(HALF, HALF, dim=0))


@gluon.jit
def _copy(x, weight, columns, row_tiles, tiles, band_tiles, steps, ring):
    """The copying warp, which runs ahead into the next tile. It asks for the ring's first stages of the weights before
    the kernel in front has ended, and waits for its end. The arguments: of `gated_kernel`; ring: weights [STAGES,
    COLUMNS, DEPTH] and inputs [STAGES, ROWS, DEPTH] in shared memory, and their barriers [STAGES, 1], ready when a
    stage is filled, free when both computing warpgroups have read it."""
    weights, inputs, ready, free, _ = ring
    STAGES: gl.constexpr = weights.shape[0]
    TILE: gl.constexpr = weights.shape[1] // 2
    ROWS: gl.constexpr = inputs.shape[1]
    DEPTH: gl.constexpr = weights.shape[2]
    BYTES: gl.constexpr = (weights.shape[1] + ROWS) * DEPTH * 2
    _, first = _tile(gl.program_id(0), row_tiles, tiles // row_tiles, band_tiles, ROWS, TILE)
    for early in gl.static_range(STAGES):
        if early < steps:
            _ask_for_weights(weight, first, columns, early * DEPTH, ready.index(early), weights.index(early), BYTES)
    gdc_launch_dependents()
    gdc_wait()
    count = 0
    for number in range(gl.program_id(0), tiles, gl.num_programs(0)):
        row, first = _tile(number, row_tiles, tiles // row_tiles, band_tiles, ROWS, TILE)
        for step in range(steps):
            stage = count % STAGES
            if count >= gl.minimum(STAGES, steps):
                mbarrier.wait(free.index(stage), ((count // STAGES) & 1) ^ 1)
                target = weights.index(stage)
                _ask_for_weights(weight, first, columns, step * DEPTH, ready.index(stage), target, BYTES)
            tma.async_copy_global_to_shared(x, [row, step * DEPTH], ready.index(stage), inputs.index(stage))
            count += 1


@gluon.jit
def _activated(gate, up, GATE: gl.constexpr):
    """See `gate_mul`. With the GPU's own power and reciprocal, off by 2 ** -22 at most: the matrix units wait for what
    a division takes."""
    if GATE == "silu":
        growth = gl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [gate * -1.4426950408889634], gl.float32, is_pure=True, pack=1
        )
        share = gl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [1.0 + growth], gl.float32, is_pure=True, pack=1
        )
        result = gate * share * up
    else:
        result = gated(gate, up, GATE)
    return result


@gluon.jit
def _compute(
    HALF: gl.constexpr,
    bias,
    out,
    rows,
    columns,
    row_tiles,
    tiles,
    band_tiles,
    steps,
    ring,
    GATE: gl.constexpr,
    BIAS: gl.constexpr,
    STAGGERED: gl.constexpr,
):
    """A computing warpgroup: one half of a tile's rows. The arguments: of `gated_kernel`; ring: see `_copy`; its last
    barrier is the first warpgroup's, by which the second one begins a tile a step later."""
    weights, inputs, ready, free, begun = ring
    STAGES: gl.constexpr = weights.shape[0]
    COLUMNS: gl.constexpr = weights.shape[1]
    TILE: gl.constexpr = COLUMNS // 2
    ROWS: gl.constexpr = inputs.shape[1] // 2
    product: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 16])
    half: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, TILE, 16])
    stored: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])
    count = 0
    for number in range(gl.program_id(0), tiles, gl.num_programs(0)):
        first_row, first = _tile(number, row_tiles, tiles // row_tiles, band_tiles, 2 * ROWS, TILE)
        if STAGGERED and HALF == 1:
            mbarrier.wait(begun, (count // steps) & 1)
        sums = gl.zeros([ROWS, COLUMNS], gl.float32, layout=product)
        for step in range(steps):
            stage = count % STAGES
            mbarrier.wait(ready.index(stage), (count // STAGES) & 1)
            x = inputs.index(stage).slice(HALF * ROWS, ROWS, dim=0)
            sums = warpgroup_mma(x, weights.index(stage).permute((1, 0)), sums, is_async=True)
            sums = warpgroup_mma_wait(1, deps=[sums])
            if step > 0:  # while this stage is multiplied, the one before has been
                mbarrier.arrive(free.index((count - 1) % STAGES), count=1)
            if STAGGERED and HALF == 0:  # noqa: SIM102 (a condition of the compiler, and one of the program)
                if step == 0:
                    mbarrier.arrive(begun, count=1)
            count += 1
        sums = warpgroup_mma_wait(0, deps=[sums])
        mbarrier.arrive(free.index((count - 1) % STAGES), count=1)
        gate, up = gl.split(sums.reshape([ROWS, 2, TILE]).permute((0, 2, 1)))
        gate = gl.convert_layout(gate, half)
        up = gl.convert_layout(up, half)
        if BIAS:
            column = first + gl.arange(0, TILE, layout=gl.SliceLayout(0, half))
            gate += gl.load(bias + column, mask=column < columns, other=0.0).to(gl.float32)[None, :]
            up += gl.load(bias + columns + column, mask=column < columns, other=0.0).to(gl.float32)[None, :]
        # Stores of 16 bytes: the products' own layout has 4.
        result = gl.convert_layout(_activated(gate, up, GATE).to(weights.dtype), stored)
        row = first_row + HALF * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, stored))
        column = first + gl.arange(0, TILE, layout=gl.SliceLayout(0, stored))
        there = (row < rows)[:, None] & (column < columns)[None, :]
        gl.store(out + row.to(gl.int64)[:, None] * columns + column[None, :], result, mask=there)


@gluon.jit(do_not_specialize=["rows", "row_tiles", "tiles", "band_tiles"])
def gated_kernel(
    x,
    weight,
    bias,
    out,
    rows,
    columns,
    row_tiles,
    tiles,
    band_tiles,
    steps,
    BIAS: gl.constexpr,
    GATE: gl.constexpr,
    STAGGERED: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
    COMPUTE_REGISTERS: gl.constexpr,
    COPY_REGISTERS: gl.constexpr,
):
    """out = GATE(first half) * second half of x @ weight.T + bias, summed in float32. Grid: (programs,), each of which
    takes one of the `tiles` after another, of ROWS rows, `row_tiles` of them, and COLUMNS / 2 columns; three warp
    partitions: two warpgroups that compute, each half of a tile's rows, and a warp that copies.

    x: a descriptor of [rows, width], in tiles of [ROWS, DEPTH]; weight: of [2 * columns, width], in tiles of [COLUMNS /
    2, DEPTH]; both of one 16-bit type. bias: [2 * columns], read if BIAS; out: [rows, columns]; both of that type,
    contiguous. steps: tiles of DEPTH in the width. GATE: an activation of gate_mul. STAGGERED: one warpgroup begins a
    tile a step behind the other, so that the matrix units have work while either computes the activation; of at least
    STAGES steps. STAGES: of the ring. band_tiles: see `_tile`. COMPUTE_REGISTERS, COPY_REGISTERS: of a thread in each
    partition."""
    element: gl.constexpr = weight.dtype
    weights = gl.allocate_shared_memory(element, [STAGES, COLUMNS, DEPTH], weight.layout)
    inputs = gl.allocate_shared_memory(element, [STAGES, ROWS, DEPTH], x.layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    begun = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(free.index(stage), count=2)
    mbarrier.init(begun, count=1)
    fence_async_shared()
    ring = (weights, inputs, ready, free, begun)
    gl.warp_specialize(
        [
            (
                _compute,
                (FIRST, bias, out, rows, columns, row_tiles, tiles, band_tiles, steps, ring, GATE, BIAS, STAGGERED),
            ),
            (
                _compute,
                (SECOND, bias, out, rows, columns, row_tiles, tiles, band_tiles, steps, ring, GATE, BIAS, STAGGERED),
            ),
            (_copy, (x, weight, columns, row_tiles, tiles, band_tiles, steps, ring)),
        ],
        [4, 1],
        [COMPUTE_REGISTERS, COPY_REGISTERS],
    )
