"""The kernel of grouped_linear for interleaved weights, in Gluon; `interleaved` says how it is made, and launches
it."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import async_copy, mma_v2
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo_kernels.grouped_linear.interleaved_parts import (
    apart,
    copied,
    copy,
    copy_one,
    finish,
    floats,
    numbers_of,
    pairs_of,
    rows_in_threads,
    stage_factors,
    stage_words,
    tile_rows,
)
from octavo_kernels.grouped_linear.interleaved_words import base
from octavo_kernels.hopper_products import summed


@gluon.jit(do_not_specialize=["rows", "steps"])
def interleaved_kernel(
    x,
    weight,
    upper,
    factors,
    bias,
    out,
    partials,
    arrivals,
    rows,
    columns,
    steps,
    FORM: gl.constexpr,
    BIAS: gl.constexpr,
    GATE: gl.constexpr,
    WIDTH: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    SPLITS: gl.constexpr,
    STAGES: gl.constexpr,
    DEPTH: gl.constexpr,
    WARPS: gl.constexpr,
    IS_ONE: gl.constexpr,
):
    """out = x @ weight.T + bias, summed in float32, or of such sums, GATE(first half) * second half. Grid:
    (ceil(columns / tile) * SPLITS,) for tiles of COLUMNS columns, or with a GATE of half as many; WARPS warps.

    x: [rows, WIDTH] of a 16-bit type; weight: the values' words; upper: likewise, of the bits above the lower 4, or
    None; factors: `interleaved.Factors`; FORM: `interleaved.Form`. bias: as many as the weight has rows, read if BIAS;
    out: [rows, columns]; both of x's type. GATE: an activation of gate_mul, or "". partials: [programs, COLUMNS, ROWS]
    float32; arrivals: [programs / SPLITS] int32, 0 before and after; used if SPLITS > 1. steps: stages of DEPTH numbers
    of a row that a program reads. ROWS: rows, up to a power of two from 8; IS_ONE: whether there is one. STAGES: of the
    ring."""
    program = gl.program_id(0)
    tile = program // SPLITS
    GATED: gl.constexpr = GATE != ""
    TILE: gl.constexpr = COLUMNS // 2 if GATED else COLUMNS
    LOWER: gl.constexpr = DEPTH // (4 if FORM.bits == 8 else 8)  # words of a row in a stage
    UPPER: gl.constexpr = 0 if FORM.bits == 8 else DEPTH // 32 * (FORM.bits - 4)
    LOWER_WIDTH: gl.constexpr = WIDTH // (4 if FORM.bits == 8 else 8)
    UPPER_WIDTH: gl.constexpr = 0 if FORM.bits == 8 else WIDTH // 32 * (FORM.bits - 4)
    PIECE: gl.constexpr = FORM.wide  # numbers that share a scale
    STEP: gl.constexpr = min(PIECE, 32)
    PIECES: gl.constexpr = DEPTH // PIECE
    first = tile * TILE
    begin = program % SPLITS * steps
    element: gl.constexpr = x.dtype.element_ty
    # Rows that lie side by side in a thread's eyes are in different banks.
    of_words: gl.constexpr = gl.SwizzledSharedLayout(16, 1, 2, [1, 0])
    of_upper: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    of_inputs: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=2 * STEP, element_bitwidth=16, rank=2)
    weights = gl.allocate_shared_memory(gl.int32, [STAGES, COLUMNS, LOWER], of_words)
    if IS_ONE:
        inputs = gl.allocate_shared_memory(element, [STAGES, DEPTH], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    else:
        inputs = gl.allocate_shared_memory(element, [STAGES, ROWS, DEPTH], of_inputs)
    if UPPER:
        uppers = gl.allocate_shared_memory(gl.int32, [STAGES, COLUMNS, UPPER], of_upper)
    lower_copy: gl.constexpr = copied(LOWER, 4, WARPS)
    lower_row, is_lower = tile_rows(first, columns, COLUMNS, GATED, gl.SliceLayout(1, lower_copy))
    lower_rows = weight + lower_row.to(gl.int64) * LOWER_WIDTH
    if UPPER:
        upper_copy: gl.constexpr = copied(UPPER, 4, WARPS)
        upper_row, is_upper = tile_rows(first, columns, COLUMNS, GATED, gl.SliceLayout(1, upper_copy))
        upper_rows = upper + upper_row.to(gl.int64) * UPPER_WIDTH
    # The weights do not wait for the kernel in front.
    for stage in gl.static_range(STAGES - 1):
        if stage < steps:
            copy(weights.index(stage), lower_rows, is_lower, (begin + stage) * LOWER, LOWER_WIDTH, lower_copy)
            if UPPER:
                copy(uppers.index(stage), upper_rows, is_upper, (begin + stage) * UPPER, UPPER_WIDTH, upper_copy)

    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[2, 0], warps_per_cta=[WARPS, 1], instr_shape=[16, 8])
    operand: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=layout, k_width=2)
    of_terms: gl.constexpr = gl.DotOperandLayout(operand_index=1, parent=layout, k_width=2)
    # Of numbers that are shifted in groups, x's sums are shifted.
    SHIFTED: gl.constexpr = FORM.has_zeros or FORM.has_minimums
    TAKEN: gl.constexpr = None if SHIFTED else FORM.offset
    BASE: gl.constexpr = base(FORM.bits, element == gl.float16) + FORM.offset
    of_pieces: gl.constexpr = rows_in_threads(COLUMNS, PIECES, WARPS)
    of_sums: gl.constexpr = gl.SliceLayout(1, layout)
    row, there = tile_rows(first, columns, COLUMNS, GATED, gl.SliceLayout(1, of_pieces))
    plain_row, is_plain_row = tile_rows(first, columns, COLUMNS, GATED, of_sums)
    every_row = columns * 2 if GATED else columns
    scale, shift, of_scale, of_shift = stage_factors(
        factors, row, there, plain_row, is_plain_row, begin, every_row, FORM, of_pieces
    )
    state_copy: gl.constexpr = copied(DEPTH, 8, WARPS)
    state = gl.arange(0, ROWS, layout=gl.SliceLayout(1, state_copy))
    states, is_state = x + state * WIDTH, state < rows
    of_one: gl.constexpr = gl.BlockedLayout([8], [32], [WARPS], [0])
    gdc_launch_dependents()
    gdc_wait()
    for stage in gl.static_range(STAGES - 1):
        if stage < steps:
            if IS_ONE:
                copy_one(inputs.index(stage), x, (begin + stage) * DEPTH, WIDTH, of_one)
            else:
                copy(inputs.index(stage), states, is_state, (begin + stage) * DEPTH, WIDTH, state_copy)
        async_copy.commit_group()

    sums = gl.zeros([COLUMNS, ROWS], gl.float32, layout=layout)
    nothing = gl.zeros([COLUMNS, ROWS], gl.float32, layout=layout)
    ones = gl.full([COLUMNS, STEP], 1.0, element, layout=operand)
    for step in range(steps):
        place = step % STAGES
        # The next step's are on their way while this one computes.
        next_scale, next_shift, next_of_scale, next_of_shift = stage_factors(
            factors, row, there, plain_row, is_plain_row, begin + step + 1, every_row, FORM, of_pieces
        )
        scales = apart(floats(scale))
        shifts = apart(floats(shift))
        async_copy.wait_group(STAGES - 2)
        gl.thread_barrier()
        # All threads are through with the last step's stage.
        following = step + STAGES - 1
        if following < steps:
            free, at = following % STAGES, begin + following
            copy(weights.index(free), lower_rows, is_lower, at * LOWER, LOWER_WIDTH, lower_copy)
            if UPPER:
                copy(uppers.index(free), upper_rows, is_upper, at * UPPER, UPPER_WIDTH, upper_copy)
            if IS_ONE:
                copy_one(inputs.index(free), x, at * DEPTH, WIDTH, of_one)
            else:
                copy(inputs.index(free), states, is_state, at * DEPTH, WIDTH, state_copy)
        async_copy.commit_group()
        terms = inputs.index(place)
        words = stage_words(weights.index(place), WARPS)
        more = words
        if UPPER:
            more = stage_words(uppers.index(place), WARPS)
        for part in gl.static_range(DEPTH // 32):
            if FORM.bits == 8:
                word, other = words[2 * part], words[2 * part + 1]
            else:
                word = words[part]
                other = more[part * (FORM.bits - 4) // 4]
            pairs = pairs_of(word, other, FORM.bits, part, TAKEN, element)
            numbers = gl.convert_layout(numbers_of(pairs, element), operand, assert_trivial=True)
            if PIECE == 16:
                halves = gl.split(numbers.reshape([COLUMNS, 2, 16]).permute((0, 2, 1)))
            for half in gl.static_range(32 // STEP):
                if (32 * part + STEP * half) % PIECE == 0:
                    product = nothing
                    total = nothing
                own = gl.convert_layout(halves[half], operand, assert_trivial=True) if PIECE == 16 else numbers
                if IS_ONE:
                    # Of all rows that the matrix units take; the others' results are left.
                    loaded = terms.slice(32 * part + STEP * half, STEP).load(gl.SliceLayout(1, of_terms))
                    loaded = loaded[:, None].broadcast_to([STEP, ROWS])
                else:
                    loaded = terms.slice(32 * part + STEP * half, STEP, dim=1).permute((1, 0)).load(of_terms)
                product = mma_v2(own, loaded, product)
                if SHIFTED:
                    total = mma_v2(ones, loaded, total)
                if (32 * part + STEP * (half + 1)) % PIECE == 0:
                    by = (
                        gl.convert_layout(scales[(32 * part + STEP * half) // PIECE], of_sums, assert_trivial=True)
                        * of_scale
                    )
                    sums += product * by[:, None]
                    if SHIFTED:
                        shift_of = gl.convert_layout(
                            shifts[(32 * part + STEP * half) // PIECE], of_sums, assert_trivial=True
                        )
                        shifted = shift_of * of_shift - BASE * by if FORM.has_minimums else -(shift_of + BASE) * by
                        sums += total * shifted[:, None]
        scale, shift, of_scale, of_shift = next_scale, next_shift, next_of_scale, next_of_shift

    sums, last = summed(sums, partials, arrivals, program, tile, COLUMNS, ROWS, SPLITS, layout)
    if last:
        finish(sums, bias, out, rows, columns, first, plain_row, is_plain_row, BIAS, GATE)
