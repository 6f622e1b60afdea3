"""The kernel of grouped_linear for Hopper and many rows, in Gluon; `many_rows` says how it is made, and launches it."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier, tma
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo_kernels.gate_mul.triton import gated
from octavo_kernels.grouped_linear.word_products import factors_in_threads, finished, narrow_sums

FIRST, SECOND = gl.constexpr(0), gl.constexpr(1)  # the warpgroups, of which each has 64 columns of a tile's parts


@gluon.jit
def _unit(number, row_tiles, SHAPE: gl.constexpr):
    """What a program works on at a time: its first column, its first step, and its tile of rows. Those that read the
    same weights follow each other."""
    column = number // row_tiles // SHAPE.splits * SHAPE.columns
    return column, number // row_tiles % SHAPE.splits * SHAPE.steps, number % row_tiles


@gluon.jit
def _ask_for_weights(weight, column, step, ready, weights, stage, BYTES: gl.constexpr, SHAPE: gl.constexpr):
    """The boxes of a stage: of each warpgroup 64 rows of the weight for both of a tile's parts. BYTES: of the stage."""
    BOXES: gl.constexpr = weights.shape[0] // ready.shape[0]
    mbarrier.expect(ready.index(stage), BYTES)
    for box in gl.static_range(BOXES):
        row = column + box % 2 * SHAPE.apart + box // 2 * 64
        target = weights.index(BOXES * stage + box)
        tma.async_copy_global_to_shared(weight, [row, step * weights.shape[2]], ready.index(stage), target)


@gluon.jit
def _copy(x, weight, row_tiles, units, ring, SHAPE: gl.constexpr):
    """The copying warp, which runs ahead into the next tile. It asks for the ring's first stages of the weights before
    the kernel in front has ended, and waits for its end. The arguments: of `many_rows_kernel`; ring: shared memory and
    its barriers, ready when a stage is copied, free when all who read it have done so."""
    inputs, weights, ready, free = ring
    STAGES: gl.constexpr = ready.shape[0]
    ROWS: gl.constexpr = inputs.shape[1]
    BOXES: gl.constexpr = weights.shape[0] // STAGES
    BYTES: gl.constexpr = 2 * ROWS * 128 + BOXES * 64 * weights.shape[2] * 4
    EARLY: gl.constexpr = min(STAGES, SHAPE.steps)
    column, begin, _ = _unit(gl.program_id(0), row_tiles, SHAPE)
    for early in gl.static_range(EARLY):
        _ask_for_weights(weight, column, begin + early, ready, weights, early, BYTES, SHAPE)
    gdc_launch_dependents()
    gdc_wait()
    count = 0
    for number in range(gl.program_id(0), units, gl.num_programs(0)):
        column, begin, row = _unit(number, row_tiles, SHAPE)
        for step in range(begin, begin + SHAPE.steps):
            stage = count % STAGES
            if count >= EARLY:
                mbarrier.wait(free.index(stage), ((count // STAGES) & 1) ^ 1)
                _ask_for_weights(weight, column, step, ready, weights, stage, BYTES, SHAPE)
            for half in gl.static_range(2):
                target = inputs.index(2 * stage + half)
                tma.async_copy_global_to_shared(x, [row * ROWS, (2 * step + half) * 64], ready.index(stage), target)
            count += 1


@gluon.jit
def _store(out, found, first, rows, column, SHAPE: gl.constexpr):
    """found: [64 columns, rows]."""
    layout: gl.constexpr = gl.BlockedLayout([8, 1], [8, 4], [1, 4], [0, 1])  # stores of 16 bytes
    columns = column + gl.arange(0, 64, layout=gl.SliceLayout(1, layout))
    row = first + gl.arange(0, found.shape[1], layout=gl.SliceLayout(0, layout))
    mask = (row < rows)[None, :] & (columns < SHAPE.out)[:, None]
    found = gl.convert_layout(found.to(out.dtype.element_ty), layout)
    gl.store(out + row.to(gl.int64)[None, :] * SHAPE.out + columns[:, None], found, mask=mask)


@gluon.jit
def _keep(part, found, first, column, row_tiles):
    """A part of sums, [64 columns, rows] float32, in its place: [columns, rows]."""
    layout: gl.constexpr = found.type.layout
    columns = column + gl.arange(0, 64, layout=gl.SliceLayout(1, layout))
    row = first + gl.arange(0, found.shape[1], layout=gl.SliceLayout(0, layout))
    gl.store(part + columns[:, None] * (row_tiles * found.shape[1]) + row[None, :], found)


@gluon.jit
def _compute(
    GROUP: gl.constexpr,
    factors,
    bias,
    out,
    sums,
    rows,
    row_tiles,
    units,
    ring,
    SHAPE: gl.constexpr,
    FORM: gl.constexpr,
    GATE: gl.constexpr,
):
    """A computing warpgroup: 64 columns of each part of a tile. The arguments: of `many_rows_kernel`; ring: see
    `_copy`."""
    ROWS: gl.constexpr = ring[0].shape[1]
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, ROWS, 16])
    count = 0
    for number in range(gl.program_id(0), units, gl.num_programs(0)):
        column, begin, row_tile = _unit(number, row_tiles, SHAPE)
        column += 64 * GROUP
        each = column + gl.arange(0, 64, layout=gl.SliceLayout(1, factors_in_threads()))
        row = gl.minimum(each, SHAPE.rows - 1).to(gl.int64)
        other_row = gl.minimum(each + SHAPE.apart, SHAPE.rows - 1).to(gl.int64)
        first, second, count = narrow_sums(
            factors, row, other_row, begin, SHAPE.steps, ring, count, GROUP, FORM, layout
        )
        first_row = row_tile * ROWS
        if SHAPE.splits > 1:
            part = sums + begin // SHAPE.steps * SHAPE.padded * (row_tiles * ROWS).to(gl.int64)
            _keep(part, first, first_row, column, row_tiles)
            _keep(part, second, first_row, column + SHAPE.apart, row_tiles)
        else:
            each = column + gl.arange(0, 64, layout=gl.SliceLayout(1, layout))
            first = finished(first, factors, bias, gl.minimum(each, SHAPE.rows - 1), FORM)
            second = finished(second, factors, bias, gl.minimum(each + SHAPE.apart, SHAPE.rows - 1), FORM)
            if GATE != "":
                _store(out, gated(first, second, GATE), first_row, rows, column, SHAPE)
            else:
                _store(out, first, first_row, rows, column, SHAPE)
                _store(out, second, first_row, rows, column + SHAPE.apart, SHAPE)


@gluon.jit(do_not_specialize=["rows", "row_tiles", "units"])
def many_rows_kernel(
    x,
    weight,
    factors,
    bias,
    out,
    sums,
    rows,
    row_tiles,
    units,
    SHAPE: gl.constexpr,
    FORM: gl.constexpr,
    GATE: gl.constexpr,
    ROWS: gl.constexpr,
    STAGES: gl.constexpr,
    COMPUTE_REGISTERS: gl.constexpr,
    COPY_REGISTERS: gl.constexpr,
):
    """out = x @ weight.T + bias, summed in float32, or what GATE makes of its halves. Grid: (programs,), each of which
    takes one of the `units` after another: a tile, or a part of its sums; three warp partitions: two warpgroups that
    compute, and a warp that copies.

    x: a descriptor of [rows, width] of a 16-bit type, in the order of `words.place_of`, in tiles of ROWS rows and 64
    columns, `row_tiles` of them; weight: of words of [SHAPE.rows, width], in tiles of 64 rows and BLOCK numbers;
    factors: `word_forms.Factors`; bias: [SHAPE.rows] or None; out: [rows, SHAPE.out]; both of x's type. sums:
    [SHAPE.splits, SHAPE.padded, row_tiles * ROWS] float32, the parts of sums that are split; then out and bias are not
    touched. SHAPE: `many_rows.Shape`; FORM: `word_forms.Form`; GATE: an activation of gate_mul, of sums that are
    not split, or "". STAGES: of the ring; COMPUTE_REGISTERS, COPY_REGISTERS: of a thread in each
    partition."""
    inputs = gl.allocate_shared_memory(x.dtype, [2 * STAGES, ROWS, 64], x.layout)
    words: gl.constexpr = weight.block_type.shape[1]
    weights = gl.allocate_shared_memory(weight.dtype, [4 * STAGES, 64, words], weight.layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(free.index(stage), count=2)
    fence_async_shared()
    ring = (inputs, weights, ready, free)
    gl.warp_specialize(
        [
            (_compute, (FIRST, factors, bias, out, sums, rows, row_tiles, units, ring, SHAPE, FORM, GATE)),
            (_compute, (SECOND, factors, bias, out, sums, rows, row_tiles, units, ring, SHAPE, FORM, GATE)),
            (_copy, (x, weight, row_tiles, units, ring, SHAPE)),
        ],
        [4, 1],
        [COMPUTE_REGISTERS, COPY_REGISTERS],
    )
