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
def _ask_for_weights(weight, first, apart, depth, ready, place):
    """Gates from row `first` of the weight on, and as many rows that are `apart` from them."""
    HALF: gl.constexpr = place.shape[0] // 2
    tma.async_copy_global_to_shared(weight, [first, depth], ready, place.slice(0, HALF, dim=0))
    tma.async_copy_global_to_shared(weight, [first + apart, depth], ready, place.slice(HALF, HALF, dim=0))


@gluon.jit
def _copy(x, weight, first, columns, steps, ring):
    """The copying warp. It asks for the ring's first stages of the weights before the kernel in front has ended, and
    waits for its end. The arguments: of `gated_kernel`; ring: weights [STAGES, COLUMNS, DEPTH] and inputs [STAGES,
    ROWS, DEPTH] in shared memory, and their barriers [STAGES, 1], ready when a stage is filled, free when both
    computing warpgroups have read it."""
    weights, inputs, ready, free = ring
    STAGES: gl.constexpr = weights.shape[0]
    DEPTH: gl.constexpr = weights.shape[2]
    BYTES: gl.constexpr = (weights.shape[1] + inputs.shape[1]) * DEPTH * 2
    for stage in gl.static_range(STAGES):
        if stage < steps:
            mbarrier.expect(ready.index(stage), BYTES)
            _ask_for_weights(weight, first, columns, stage * DEPTH, ready.index(stage), weights.index(stage))
    gdc_launch_dependents()
    gdc_wait()
    for stage in gl.static_range(STAGES):
        if stage < steps:
            tma.async_copy_global_to_shared(x, [0, stage * DEPTH], ready.index(stage), inputs.index(stage))
    for step in range(STAGES, steps):
        place = step % STAGES
        mbarrier.wait(free.index(place), ((step // STAGES) & 1) ^ 1)
        mbarrier.expect(ready.index(place), BYTES)
        _ask_for_weights(weight, first, columns, step * DEPTH, ready.index(place), weights.index(place))
        tma.async_copy_global_to_shared(x, [0, step * DEPTH], ready.index(place), inputs.index(place))


@gluon.jit
def _compute(HALF: gl.constexpr, bias, out, rows, columns, first, steps, ring, GATE: gl.constexpr, BIAS: gl.constexpr):
    """A computing warpgroup: one half of a tile's rows. The arguments: of `gated_kernel`; ring: see `_copy`."""
    weights, inputs, ready, free = ring
    STAGES: gl.constexpr = weights.shape[0]
    COLUMNS: gl.constexpr = weights.shape[1]
    TILE: gl.constexpr = COLUMNS // 2
    ROWS: gl.constexpr = inputs.shape[1] // 2
    product: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 16])
    half: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, TILE, 16])
    stored: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])
    sums = gl.zeros([ROWS, COLUMNS], gl.float32, layout=product)
    for step in range(steps):
        stage = step % STAGES
        mbarrier.wait(ready.index(stage), (step // STAGES) & 1)
        x = inputs.index(stage).slice(HALF * ROWS, ROWS, dim=0)
        sums = warpgroup_mma(x, weights.index(stage).permute((1, 0)), sums, is_async=True)
        sums = warpgroup_mma_wait(1, deps=[sums])
        if step > 0:  # while this stage is multiplied, the one before has been
            mbarrier.arrive(free.index((step - 1) % STAGES), count=1)
    sums = warpgroup_mma_wait(0, deps=[sums])
    gate, up = gl.split(sums.reshape([ROWS, 2, TILE]).permute((0, 2, 1)))
    gate = gl.convert_layout(gate, half)
    up = gl.convert_layout(up, half)
    if BIAS:
        column = first + gl.arange(0, TILE, layout=gl.SliceLayout(0, half))
        gate += gl.load(bias + column, mask=column < columns, other=0.0).to(gl.float32)[None, :]
        up += gl.load(bias + columns + column, mask=column < columns, other=0.0).to(gl.float32)[None, :]
    # Stores of 16 bytes: the products' own layout has 4.
    result = gl.convert_layout(gated(gate, up, GATE).to(weights.dtype), stored)
    row = HALF * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, stored))
    column = first + gl.arange(0, TILE, layout=gl.SliceLayout(0, stored))
    there = (row < rows)[:, None] & (column < columns)[None, :]
    gl.store(out + row[:, None] * columns + column[None, :], result, mask=there)


@gluon.jit(do_not_specialize=["rows"])
def gated_kernel(
    x,
    weight,
    bias,
    out,
    rows,
    columns,
    steps,
    BIAS: gl.constexpr,
    GATE: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
    COMPUTE_REGISTERS: gl.constexpr,
    COPY_REGISTERS: gl.constexpr,
):
    """out = GATE(first half) * second half of x @ weight.T + bias, summed in float32. Grid: (ceil(columns / (COLUMNS /
    2)),); three warp partitions: two warpgroups that compute, each half of the rows, and a warp that copies.

    x: a descriptor of [rows, width], in tiles of [ROWS, DEPTH]; weight: of [2 * columns, width], in tiles of [COLUMNS /
    2, DEPTH]; both of one 16-bit type. bias: [2 * columns], read if BIAS; out: [rows, columns]; both of that type,
    contiguous. GATE: an activation of gate_mul. steps: tiles of DEPTH in the width. ROWS: rows, up to 128. STAGES: of
    the ring. COMPUTE_REGISTERS, COPY_REGISTERS: of a thread in each partition."""
    first = gl.program_id(0) * (COLUMNS // 2)
    element: gl.constexpr = weight.dtype
    weights = gl.allocate_shared_memory(element, [STAGES, COLUMNS, DEPTH], weight.layout)
    inputs = gl.allocate_shared_memory(element, [STAGES, ROWS, DEPTH], x.layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(free.index(stage), count=2)
    fence_async_shared()
    ring = (weights, inputs, ready, free)
    gl.warp_specialize(
        [
            (_compute, (FIRST, bias, out, rows, columns, first, steps, ring, GATE, BIAS)),
            (_compute, (SECOND, bias, out, rows, columns, first, steps, ring, GATE, BIAS)),
            (_copy, (x, weight, first, columns, steps, ring)),
        ],
        [4, 1],
        [COMPUTE_REGISTERS, COPY_REGISTERS],
    )
