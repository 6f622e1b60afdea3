"""The kernel of experts for Hopper, in Gluon; `hopper` says how it is made, and launches it."""

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

from octavo_kernels.experts.triton import gated
from octavo_kernels.grouped_linear.word_products import factors_in_threads, finished, narrow_sums
from octavo_kernels.grouped_linear.words import place_of

FIRST, SECOND = gl.constexpr(0), gl.constexpr(1)  # the warpgroups, of which each has 64 columns of a tile's parts


@gluon.jit
def tile_of(tile, blocks, SHAPE: gl.constexpr):
    """The expert of a tile, its first row and the one behind its last, and its first column."""
    entry = blocks.table + 3 * (tile // SHAPE.tiles)
    return gl.load(entry), gl.load(entry + 1), gl.load(entry + 2), tile % SHAPE.tiles * SHAPE.columns


@gluon.jit
def copy_all(states, weight, blocks, ring, SHAPE: gl.constexpr):
    """The copying warp, for one program of `grouped_kernel`, whose arguments it takes; it runs ahead into the next
    tile. ring: shared memory and its barriers, ready when a stage is copied, free when both who read it have done
    so."""
    inputs, weights, ready, free = ring
    STAGES: gl.constexpr = ready.shape[0]
    PARTS: gl.constexpr = inputs.shape[0] // STAGES
    WORDS: gl.constexpr = weights.shape[2]  # of a row of the weight in a stage
    BOXES: gl.constexpr = weights.shape[0] // STAGES
    BYTES: gl.constexpr = PARTS * inputs.shape[1] * 128 + BOXES * 64 * WORDS * weights.dtype.primitive_bitwidth // 8
    index = 0
    for tile in range(gl.program_id(0), gl.load(blocks.number) * SHAPE.tiles, gl.num_programs(0)):
        expert, first, _, column = tile_of(tile, blocks, SHAPE)
        row = expert * SHAPE.rows + column
        for step in range(SHAPE.steps):
            stage = index % STAGES
            mbarrier.wait(free.index(stage), ((index // STAGES) & 1) ^ 1)
            mbarrier.expect(ready.index(stage), BYTES)
            for box in gl.static_range(BOXES):
                own = row + box % 2 * SHAPE.apart + box // 2 * 64
                target = weights.index(BOXES * stage + box)
                tma.async_copy_global_to_shared(weight, [own, step * WORDS], ready.index(stage), target)
            for part in gl.static_range(PARTS):
                target = inputs.index(PARTS * stage + part)
                place = (step * PARTS + part) * 64
                tma.async_copy_global_to_shared(states, [first, place], ready.index(stage), target)
            index += 1


@gluon.jit
def store(out, found, first, end, column, order, SHAPE: gl.constexpr, BITS: gl.constexpr):
    """found: [64 columns, rows]; into the rows themselves, the columns where a product by weights of BITS takes them,
    or into those of the pairs in `order`."""
    layout: gl.constexpr = gl.BlockedLayout([8, 1], [8, 4], [1, 4], [0, 1])
    columns = column + gl.arange(0, 64, layout=gl.SliceLayout(1, layout))
    rows = first + gl.arange(0, found.shape[1], layout=gl.SliceLayout(0, layout))
    found = gl.convert_layout(found.to(out.dtype.element_ty), layout)
    is_row = rows < end
    if SHAPE.gated:
        # What is behind the last column is multiplied too.
        found = gl.where((columns < SHAPE.out)[:, None], found, gl.zeros_like(found))
        columns, target = place_of(columns, BITS), rows
    else:
        target = gl.load(order + rows, mask=is_row, other=0)
    mask = is_row[None, :] & (columns < SHAPE.stride)[:, None]
    gl.store(out + target.to(gl.int64)[None, :] * SHAPE.stride + columns[:, None], found, mask=mask)


@gluon.jit
def compute(
    GROUP: gl.constexpr,
    out,
    factors,
    biases,
    order,
    blocks,
    ring,
    SHAPE: gl.constexpr,
    FORM: gl.constexpr,
    LIMIT: gl.constexpr,
    BITS: gl.constexpr,
):
    """A computing warpgroup, for one program of `grouped_kernel`, whose arguments it takes: 64 columns of each part of
    a tile. ring: see `copy_all`."""
    inputs, weights, ready, free = ring
    STAGES: gl.constexpr = ready.shape[0]
    ROWS: gl.constexpr = inputs.shape[1]
    BOXES: gl.constexpr = weights.shape[0] // STAGES
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, ROWS, 16])
    index = 0
    for tile in range(gl.program_id(0), gl.load(blocks.number) * SHAPE.tiles, gl.num_programs(0)):
        expert, begin, end, column = tile_of(tile, blocks, SHAPE)
        column += 64 * GROUP
        if FORM.kind == "wide":
            first = gl.zeros([64, ROWS], gl.float32, layout=layout)
            second = gl.zeros([64, ROWS], gl.float32, layout=layout)
            for _ in range(SHAPE.steps):
                stage = index % STAGES
                mbarrier.wait(ready.index(stage), (index // STAGES) & 1)
                terms = inputs.index(stage).permute((1, 0))
                box = BOXES * stage + 2 * GROUP
                first_token = warpgroup_mma(weights.index(box), terms, first, is_async=True)
                second_token = warpgroup_mma(weights.index(box + 1), terms, second, is_async=True)
                first, second = warpgroup_mma_wait(0, deps=[first_token, second_token])
                mbarrier.arrive(free.index(stage), count=1)
                index += 1
        else:
            each = column + gl.arange(0, 64, layout=gl.SliceLayout(1, factors_in_threads()))
            row = expert.to(gl.int64) * SHAPE.rows + gl.minimum(each, SHAPE.rows - 1)
            other_row = expert.to(gl.int64) * SHAPE.rows + gl.minimum(each + SHAPE.apart, SHAPE.rows - 1)
            first, second, index = narrow_sums(
                factors, row, other_row, 0, SHAPE.steps, ring, index, GROUP, FORM, layout
            )
        each = column + gl.arange(0, 64, layout=gl.SliceLayout(1, layout))
        row = expert.to(gl.int64) * SHAPE.rows + gl.minimum(each, SHAPE.rows - 1)
        other_row = expert.to(gl.int64) * SHAPE.rows + gl.minimum(each + SHAPE.apart, SHAPE.rows - 1)
        first = finished(first, factors, biases, row, FORM)
        second = finished(second, factors, biases, other_row, FORM)
        if SHAPE.gated:
            store(out, gated(first, second, LIMIT), begin, end, column, order, SHAPE, BITS)
        else:
            store(out, first, begin, end, column, order, SHAPE, BITS)
            store(out, second, begin, end, column + SHAPE.apart, order, SHAPE, BITS)


@gluon.jit
def grouped_kernel(
    states,
    weight,
    factors,
    biases,
    out,
    order,
    blocks,
    SHAPE: gl.constexpr,
    FORM: gl.constexpr,
    LIMIT: gl.constexpr,
    BITS: gl.constexpr,
    ROWS: gl.constexpr,
    STAGES: gl.constexpr,
    WARPGROUPS: gl.constexpr,
    COMPUTE_REGISTERS: gl.constexpr,
    COPY_REGISTERS: gl.constexpr,
):
    """Products of rows with their experts' weights, or what `gated` makes of two of them. Grid: (programs,), each of
    which takes one tile after another; three warp partitions: two warpgroups that compute, and a warp that copies.

    states: a descriptor of [pairs, width] of a 16-bit type, in the order of `order`, in tiles of ROWS rows and 64
    columns; weight: of [experts * rows, width], or of words of it, in tiles of 64 rows and of the stage's columns;
    factors: `word_forms.Factors` of narrow weights; biases: [experts * rows] or None; out: [pairs, stride], both of
    that type; order, blocks: see `blocks.place_kernel`. SHAPE: `hopper.Shape`; FORM: `word_forms.Form`; LIMIT: see
    `triton.gated`; BITS: of the weights by which what is gated is multiplied. ROWS, STAGES, WARPGROUPS: see
    `hopper.Tile`; COMPUTE_REGISTERS, COPY_REGISTERS: of a thread in each partition."""
    PARTS: gl.constexpr = 1 if FORM.kind == "wide" else 2
    inputs = gl.allocate_shared_memory(states.dtype, [PARTS * STAGES, ROWS, 64], states.layout)
    weights = gl.allocate_shared_memory(
        weight.dtype, [2 * WARPGROUPS * STAGES, 64, weight.block_type.shape[1]], weight.layout
    )
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(free.index(stage), count=WARPGROUPS)
    fence_async_shared()
    ring = (inputs, weights, ready, free)
    if WARPGROUPS == 1:
        gl.warp_specialize(
            [
                (compute, (FIRST, out, factors, biases, order, blocks, ring, SHAPE, FORM, LIMIT, BITS)),
                (copy_all, (states, weight, blocks, ring, SHAPE)),
            ],
            [1],
            [COPY_REGISTERS],
        )
    else:
        gl.warp_specialize(
            [
                (compute, (FIRST, out, factors, biases, order, blocks, ring, SHAPE, FORM, LIMIT, BITS)),
                (compute, (SECOND, out, factors, biases, order, blocks, ring, SHAPE, FORM, LIMIT, BITS)),
                (copy_all, (states, weight, blocks, ring, SHAPE)),
            ],
            [4, 1],
            [COMPUTE_REGISTERS, COPY_REGISTERS],
        )
