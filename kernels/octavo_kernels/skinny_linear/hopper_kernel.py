"""The kernels of skinny_linear for Hopper, in Gluon; `hopper` says how they are made, and launches them."""

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
from octavo_kernels.hopper_products import summed, write_turned

_TILES = gl.constexpr(64)  # whose sums of squares are read at once


@gluon.jit
def _ring(x, weight, COLUMNS: gl.constexpr, ROWS: gl.constexpr, DEPTH: gl.constexpr, STAGES: gl.constexpr):
    """Shared memory for STAGES of weights [STAGES, COLUMNS, DEPTH], of inputs [STAGES, ROWS, DEPTH], and their barriers
    [STAGES, 1]. x, weight: descriptors."""
    return (
        gl.allocate_shared_memory(weight.dtype, [STAGES, COLUMNS, DEPTH], weight.layout),
        gl.allocate_shared_memory(x.dtype, [STAGES, ROWS, DEPTH], x.layout),
        gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout()),
    )


@gluon.jit
def _ask_for_weights(weight, first, apart, depth, ready, place, COLUMNS: gl.constexpr, PAIRED: gl.constexpr):
    """COLUMNS rows of the weight from `first` on, or, PAIRED, half as many, and as many that are `apart` from them."""
    if PAIRED:
        HALF: gl.constexpr = COLUMNS // 2
        tma.async_copy_global_to_shared(weight, [first, depth], ready, place.slice(0, HALF, dim=0))
        tma.async_copy_global_to_shared(weight, [first + apart, depth], ready, place.slice(HALF, HALF, dim=0))
    else:
        tma.async_copy_global_to_shared(weight, [first, depth], ready, place)


@gluon.jit
def _start(
    x,
    weight,
    first,
    apart,
    begin,
    steps,
    ring,
    COLUMNS: gl.constexpr,
    ROWS: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
    PAIRED: gl.constexpr,
):
    """Asks for the ring's first stages, of the weights before the kernel in front has ended, and waits for its end.

    first, apart: see _ask_for_weights; begin: the first column of both; ring: of `_ring`; the others as for
    `skinny_kernel`."""
    weights, inputs, ready = ring
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
    fence_async_shared()
    # The weights do not wait for the kernel in front.
    for stage in gl.static_range(STAGES):
        if stage < steps:
            mbarrier.expect(ready.index(stage), (COLUMNS + ROWS) * DEPTH * 2)
            depth = begin + stage * DEPTH
            _ask_for_weights(weight, first, apart, depth, ready.index(stage), weights.index(stage), COLUMNS, PAIRED)
    gdc_launch_dependents()
    gdc_wait()
    for stage in gl.static_range(STAGES):
        if stage < steps:
            tma.async_copy_global_to_shared(x, [0, begin + stage * DEPTH], ready.index(stage), inputs.index(stage))


@gluon.jit
def _multiplied(
    x,
    weight,
    first,
    apart,
    begin,
    steps,
    ring,
    COLUMNS: gl.constexpr,
    ROWS: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
    PAIRED: gl.constexpr,
    layout: gl.constexpr,
):
    """[COLUMNS, ROWS] float32: the product, of the columns that the program reads. The arguments: of `_start`."""
    weights, inputs, ready = ring
    sums = gl.zeros([COLUMNS, ROWS], gl.float32, layout=layout)
    for step in range(steps):
        place = step % STAGES
        mbarrier.wait(ready.index(place), (step // STAGES) & 1)
        product = warpgroup_mma(weights.index(place), inputs.index(place).permute((1, 0)), sums, is_async=True)
        sums = warpgroup_mma_wait(0, deps=[product])
        if step + STAGES < steps:
            depth = begin + (step + STAGES) * DEPTH
            mbarrier.expect(ready.index(place), (COLUMNS + ROWS) * DEPTH * 2)
            _ask_for_weights(weight, first, apart, depth, ready.index(place), weights.index(place), COLUMNS, PAIRED)
            tma.async_copy_global_to_shared(x, [0, depth], ready.index(place), inputs.index(place))
    return sums


@gluon.jit
def _root_factors(norm, ROWS: gl.constexpr, layout: gl.constexpr):
    """[ROWS] float32: what rows whose norm is begun are multiplied by, over the root of the mean square. norm: see
    `skinny_kernel`."""
    squares, tiles, COUNT, width, eps = norm
    LANES: gl.constexpr = ROWS // 4
    spread: gl.constexpr = gl.BlockedLayout([1, 4], [32 // LANES, LANES], [4, 1], [1, 0])
    tile = gl.arange(0, _TILES, layout=gl.SliceLayout(1, spread))
    row = gl.arange(0, ROWS, layout=gl.SliceLayout(0, spread))
    parts = gl.zeros([_TILES, ROWS], gl.float32, layout=spread)
    for first in range(0, tiles, _TILES):
        there = (first + tile < tiles)[:, None]
        parts += gl.load(squares + (first + tile)[:, None] * COUNT + row[None, :] % COUNT, mask=there, other=0.0)
    factors = gl.rsqrt(gl.sum(parts, axis=0) / width + eps)
    return gl.convert_layout(factors, gl.SliceLayout(0, layout))


@gluon.jit
def _with_bias(sums, bias, first, columns, layout: gl.constexpr):
    column = first + gl.arange(0, sums.shape[0], layout=gl.SliceLayout(1, layout))
    return sums + gl.load(bias + column, mask=column < columns, other=0.0).to(gl.float32)[:, None]


@gluon.jit(do_not_specialize=["rows"])
def skinny_kernel(
    x,
    norm,
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
    columns, width], in tiles of [tile, DEPTH]; both of one 16-bit type. norm: where x's RMSNorm is begun, what
    `skinny_add_kernel` left: the sums of squares, of how many tiles, for how many rows, of how many columns together,
    and what is added to their mean; else None. bias: as many as the weight has rows, read if BIAS; out: [rows,
    columns]; both of that type, contiguous. GATE: an activation of gate_mul, or "".
    partials: [programs, COLUMNS, ROWS] float32; arrivals: [programs / SPLITS] int32, 0 before and after; used if SPLITS
    > 1. steps: tiles of DEPTH columns that a program reads. ROWS: rows, up to 8, 16, 32 or 64. STAGES: of the ring."""
    program = gl.program_id(0)
    tile = program // SPLITS
    GATED: gl.constexpr = GATE != ""
    TILE: gl.constexpr = COLUMNS // 2 if GATED else COLUMNS
    first = tile * TILE
    begin = program % SPLITS * steps * DEPTH
    element: gl.constexpr = weight.dtype
    ring = _ring(x, weight, COLUMNS, ROWS, DEPTH, STAGES)
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, ROWS, 16])
    _start(x, weight, first, columns, begin, steps, ring, COLUMNS, ROWS, DEPTH, STAGES, GATED)
    if norm is not None:
        factors = _root_factors(norm, ROWS, layout)
    sums = _multiplied(x, weight, first, columns, begin, steps, ring, COLUMNS, ROWS, DEPTH, STAGES, GATED, layout)
    sums, last = summed(sums, partials, arrivals, program, tile, COLUMNS, ROWS, SPLITS, layout)
    if last:
        if norm is not None:
            sums *= factors[None, :]
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


@gluon.jit(do_not_specialize=["rows"])
def skinny_add_kernel(
    x,
    weight,
    stream,
    scaled,
    norm_weight,
    squares,
    partials,
    arrivals,
    rows,
    columns,
    steps,
    OFFSET: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    DEPTH: gl.constexpr,
    SPLITS: gl.constexpr,
    STAGES: gl.constexpr,
):
    """stream += x @ weight.T, summed in float32, and the beginning of its RMSNorm: scaled = stream * (OFFSET +
    norm_weight), and the sums of the stream's squares over each tile. Grid: (ceil(columns / COLUMNS) * SPLITS,).

    stream, scaled: [rows, columns], contiguous; norm_weight: [columns]; all of the weight's type. squares: [tiles,
    ROWS] float32, written. The others: as for `skinny_kernel`."""
    program = gl.program_id(0)
    tile = program // SPLITS
    first = tile * COLUMNS
    begin = program % SPLITS * steps * DEPTH
    element: gl.constexpr = weight.dtype
    ring = _ring(x, weight, COLUMNS, ROWS, DEPTH, STAGES)
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, ROWS, 16])
    # The stream is read and written 16 bytes at a time.
    spread: gl.constexpr = gl.BlockedLayout([8, 1], [8, 4], [1, 4], [0, 1])
    _start(x, weight, first, columns, begin, steps, ring, COLUMNS, ROWS, DEPTH, STAGES, False)
    column = first + gl.arange(0, COLUMNS, layout=gl.SliceLayout(1, spread))
    row = gl.arange(0, ROWS, layout=gl.SliceLayout(0, spread))
    there = (row < rows)[None, :] & (column < columns)[:, None]
    places = row[None, :] * columns + column[:, None]
    before = gl.load(stream + places, mask=there, other=0.0)
    factors = OFFSET + gl.load(norm_weight + column, mask=column < columns, other=0.0).to(gl.float32)
    sums = _multiplied(x, weight, first, columns, begin, steps, ring, COLUMNS, ROWS, DEPTH, STAGES, False, layout)
    sums, last = summed(sums, partials, arrivals, program, tile, COLUMNS, ROWS, SPLITS, layout)
    if last:
        # The norm is of the stream as it is kept.
        total = (gl.convert_layout(sums, spread) + before.to(gl.float32)).to(element)
        exact = total.to(gl.float32)
        gl.store(stream + places, total, mask=there)
        gl.store(scaled + places, (exact * factors[:, None]).to(element), mask=there)
        gl.store(squares + tile * ROWS + row, gl.sum(exact * exact, axis=0))


@gluon.jit(do_not_specialize=["rows"])
def skinny_rotary_kernel(
    x,
    norm,
    weight,
    bias,
    q,
    stride_q,
    cache,
    positions,
    cos_sin,
    slots,
    partials,
    arrivals,
    rows,
    steps,
    Q_HEADS: gl.constexpr,
    KV_HEADS: gl.constexpr,
    HALF: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
    BIAS: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    DEPTH: gl.constexpr,
    SPLITS: gl.constexpr,
    STAGES: gl.constexpr,
):
    """Of x @ weight.T + bias, which are queries, keys and values, writes the queries to q, and keys and values into
    their slots, queries and keys turned by their positions. Grid: (heads * 2 * HALF / COLUMNS * SPLITS,).

    A tile is as many entries of the first half of a head as of its second. x: a descriptor of [rows, width], in tiles
    of [ROWS, DEPTH]; weight: of [heads * 2 * HALF, width], in tiles of [COLUMNS / 2, DEPTH]; bias: [heads * 2 * HALF],
    read if BIAS; q: [rows, Q_HEADS * 2 * HALF], its rows stride_q apart; cache: `LayerCache` [blocks, BLOCK_SIZE,
    KV_HEADS, 2 * HALF]; all of one 16-bit type. positions, slots: [rows] int64, a slot below 0 for padding; cos_sin:
    [positions, 2 * HALF] float32, cosines, then sines. The others: as for `skinny_kernel`."""
    program = gl.program_id(0)
    tile = program // SPLITS
    TILE: gl.constexpr = COLUMNS // 2
    head = tile // (HALF // TILE)
    first_within = tile % (HALF // TILE) * TILE
    first = head * (2 * HALF) + first_within
    begin = program % SPLITS * steps * DEPTH
    ring = _ring(x, weight, COLUMNS, ROWS, DEPTH, STAGES)
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, ROWS, 16])
    spread: gl.constexpr = gl.BlockedLayout([2, 1], [16, 2], [1, 4], [0, 1])
    _start(x, weight, first, HALF, begin, steps, ring, COLUMNS, ROWS, DEPTH, STAGES, True)
    within = first_within + gl.arange(0, TILE, layout=gl.SliceLayout(1, spread))
    row = gl.arange(0, ROWS, layout=gl.SliceLayout(0, spread))
    there = row < rows
    slot = gl.load(slots + row, mask=there, other=-1)
    angles = cos_sin + gl.load(positions + row, mask=there, other=0)[None, :] * (2 * HALF) + within[:, None]
    cos = gl.load(angles)
    sin = gl.load(angles + HALF)
    if norm is not None:
        factors = _root_factors(norm, ROWS, layout)
    sums = _multiplied(x, weight, first, HALF, begin, steps, ring, COLUMNS, ROWS, DEPTH, STAGES, True, layout)
    sums, last = summed(sums, partials, arrivals, program, tile, COLUMNS, ROWS, SPLITS, layout)
    if last:
        if norm is not None:
            sums *= factors[None, :]
        # A thread has the entries of both halves that are turned against each other.
        halves = gl.convert_layout(sums, spread)
        front, back = gl.split(halves.reshape([2, TILE, ROWS]).permute((1, 2, 0)))
        front = gl.convert_layout(front, spread)
        back = gl.convert_layout(back, spread)
        if BIAS:
            front = _with_bias(front, bias, first, first + TILE, spread)
            back = _with_bias(back, bias + HALF, first, first + TILE, spread)
        write_turned(
            front,
            back,
            cos,
            sin,
            q,
            stride_q,
            cache,
            slot,
            rows,
            head,
            within,
            Q_HEADS,
            KV_HEADS,
            HALF,
            BLOCK_SIZE,
        )
