"""What the kernel of grouped_linear for interleaved weights is made of, in Gluon: who copies and who reads what of a
stage, and how numbers are unpacked."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import async_copy

from octavo_kernels.gate_mul.triton import gated
from octavo_kernels.grouped_linear.interleaved_words import PAIR, unpacking


@gluon.constexpr_function
def rows_in_threads(rows, count, warps):
    """The layout of [rows, count] in which a thread has all of the rows that it has sums of."""
    registers = [[0, 1 << bit] for bit in range(count.bit_length() - 1)]
    return _by_rows(registers, [[0, 0], [0, 0]], rows, count, warps)


@gluon.constexpr_function
def words_in_threads(rows, count, warps):
    """The layout of [rows, count] words in which a thread has those that it takes: of each 16, or of fewer, a
    quarter."""
    each = min(count, 16) // 4
    registers = [[0, 1 << bit] for bit in range(each.bit_length() - 1)]
    registers += [[0, 16 << bit] for bit in range((count // 16).bit_length() - 1)]
    return _by_rows(registers, [[0, each], [0, 2 * each]], rows, count, warps)


@gluon.constexpr_function
def _by_rows(registers, quarters, rows, count, warps):
    of_rows = [[8, 0]] + [[16 * warps << bit, 0] for bit in range((rows // (16 * warps)).bit_length() - 1)]
    of_warps = [[16 << bit, 0] for bit in range(warps.bit_length() - 1)]
    lanes = [*quarters, [1, 0], [2, 0], [4, 0]]
    return gl.DistributedLinearLayout(registers + of_rows, lanes, of_warps, [], [rows, count])


@gluon.constexpr_function
def copied(width, vector, warps):
    """The layout in which rows of a width are copied, `vector` of a row at a time."""
    across = min(32, width // vector)
    return gl.BlockedLayout([1, vector], [32 // across, across], [warps, 1], [1, 0])


@gluon.jit
def tile_rows(first, columns, COLUMNS: gl.constexpr, GATED: gl.constexpr, layout: gl.constexpr):
    """Which rows of the weight a tile is of, and whether they are there. GATED: eight of its first half, the same eight
    of its second, and so on, so that a thread has both."""
    each = gl.arange(0, COLUMNS, layout=layout)
    if GATED:
        column = first + each // 16 * 8 + each % 8
        row = gl.where(each % 16 < 8, column, columns + column)
    else:
        column = first + each
        row = column
    return row, column < columns


@gluon.jit
def copy(place, rows, there, at, WIDTH: gl.constexpr, layout: gl.constexpr):
    """A stage of rows [count] of pointers, from `at` on; zeros where they end."""
    column = at + gl.arange(0, place.shape[1], layout=gl.SliceLayout(0, layout))
    mask = there[:, None] & (column < WIDTH)[None, :]
    async_copy.async_copy_global_to_shared(place, rows[:, None] + column[None, :], mask=mask)


@gluon.jit
def copy_one(place, row, at, WIDTH: gl.constexpr, layout: gl.constexpr):
    """A stage of one row."""
    column = at + gl.arange(0, place.shape[0], layout=layout)
    async_copy.async_copy_global_to_shared(place, row + column, mask=column < WIDTH)


@gluon.jit
def stage_words(place, WARPS: gl.constexpr):
    """A stage's words, as [rows, 4] of the four threads that share a row: their first ones, their second ones, and so
    on."""
    ROWS: gl.constexpr = place.shape[0]
    COUNT: gl.constexpr = place.shape[1]
    words = place.load(words_in_threads(ROWS, COUNT, WARPS))
    if COUNT > 16:
        words = words.reshape([ROWS, COUNT // 16, 4, 4]).permute((0, 2, 1, 3))
    return apart(words.reshape([ROWS, 4, COUNT // 4]))


@gluon.constexpr_function
def _halved(shape):
    """Its last dimension as two, and the order in which the first of these is the last."""
    rank = len(shape)
    return [*shape[:-1], 2, shape[-1] // 2], (*range(rank - 1), rank, rank - 1)


@gluon.jit
def apart(each):
    """[..., count] as a tuple of [...]."""
    COUNT: gl.constexpr = each.shape[-1]
    if COUNT > 1:
        halved: gl.constexpr = _halved(each.shape)
        first, second = gl.split(each.reshape(halved[0]).permute(halved[1]))
        every = apart(first) + apart(second)
    else:
        every = (each.reshape(each.shape[:-1]),)
    return every


@gluon.jit
def _neighbours(pairs):
    """[..., 2] of 16 bits."""
    return gl.join(
        *gl.inline_asm_elementwise(PAIR, "=h,=h,r", [pairs], dtype=(gl.int16, gl.int16), is_pure=True, pack=1)
    )


@gluon.jit
def pairs_of(
    word,
    more,
    BITS: gl.constexpr,
    PART: gl.constexpr,
    TAKEN: gl.constexpr,
    element: gl.constexpr,
):
    """Four tensors [rows, 4] of pairs of `element`, of 32 numbers of each row, of which a thread has one word, and
    another one where they are of more than 4 bits, [rows, 4]: see `unpacking`."""
    code: gl.constexpr = unpacking(BITS, PART, element == gl.float16, TAKEN)
    return gl.inline_asm_elementwise(
        code,
        "=&r,=&r,=&r,=&r,r,r",
        [word, more],
        dtype=(gl.int32, gl.int32, gl.int32, gl.int32),
        is_pure=True,
        pack=1,
    )


@gluon.jit
def numbers_of(pairs, element: gl.constexpr):
    """[rows, 32] of `element` as the matrix units take them, of four tensors of pairs."""
    low = gl.join(_neighbours(pairs[0]), _neighbours(pairs[1]))
    high = gl.join(_neighbours(pairs[2]), _neighbours(pairs[3]))
    every = gl.join(low, high).permute((0, 4, 3, 1, 2)).reshape([pairs[0].shape[0], 32])
    return every.to(element, bitcast=True)


@gluon.jit
def floats(each):
    """In float32; small whole numbers by the bits of a large one, since there are few units that convert them."""
    if each.dtype.is_int():
        number = (each.to(gl.int32) + 0x4B400000).to(gl.float32, bitcast=True) - 12582912.0
    else:
        number = each.to(gl.float32)
    return number


@gluon.jit
def _of_groups(factors, row, there, stage, rows, FORM: gl.constexpr, layout: gl.constexpr):
    """Those of a stage's groups, [rows, groups], as they are stored. rows: of the weight."""
    COUNT: gl.constexpr = layout.shape[1]
    group = stage * COUNT + gl.arange(0, COUNT, layout=gl.SliceLayout(0, layout))
    place = (group // FORM.in_block * rows)[None, :] + row[:, None]
    place = place * FORM.in_block + (group % FORM.in_block)[None, :]
    return gl.load(factors + place, mask=there[:, None] & (group < FORM.groups)[None, :], other=0)


@gluon.jit
def _of_supers(factors, row, there, stage, rows, KIND: gl.constexpr, FORM: gl.constexpr):
    """What a stage's nested scales, or minimums, are multiplied by, [rows] float32."""
    place = (gl.minimum(stage, FORM.supers - 1) * rows + row) * (1 + FORM.has_minimums) + KIND
    return gl.load(factors + place, mask=there, other=0).to(gl.float32)


@gluon.jit
def stage_factors(
    factors,
    row,
    there,
    plain_row,
    is_plain_row,
    stage,
    rows,
    FORM: gl.constexpr,
    layout: gl.constexpr,
):
    """Of a stage: scales, and zeros or minimums, as they are stored, and what both are multiplied by."""
    scale = _of_groups(factors.scales, row, there, stage, rows, FORM, layout)
    shift = scale
    if FORM.has_zeros:
        shift = _of_groups(factors.zeros, row, there, stage, rows, FORM, layout)
    if FORM.has_minimums:
        shift = _of_groups(factors.minimums, row, there, stage, rows, FORM, layout)
    of_scale = gl.full([plain_row.shape[0]], 1.0, gl.float32, layout=plain_row.type.layout)
    of_shift = of_scale
    if FORM.supers:
        of_scale = _of_supers(factors.supers, plain_row, is_plain_row, stage, rows, 0, FORM)
        if FORM.has_minimums:
            of_shift = _of_supers(factors.supers, plain_row, is_plain_row, stage, rows, 1, FORM)
    return scale, shift, of_scale, of_shift


@gluon.jit
def finish(
    sums,
    bias,
    out,
    rows,
    columns,
    first,
    plain_row,
    is_plain_row,
    BIAS: gl.constexpr,
    GATE: gl.constexpr,
):
    """Writes a tile of the result of its sums [COLUMNS, ROWS] float32."""
    COLUMNS: gl.constexpr = sums.shape[0]
    ROWS: gl.constexpr = sums.shape[1]
    TILE: gl.constexpr = COLUMNS // 2 if GATE != "" else COLUMNS
    if BIAS:
        sums += gl.load(bias + plain_row, mask=is_plain_row, other=0.0).to(gl.float32)[:, None]
    if GATE != "":
        gate, up = gl.split(sums.reshape([COLUMNS // 16, 2, 8, ROWS]).permute((0, 2, 3, 1)))
        result = gated(gate, up, GATE).reshape([TILE, ROWS])
    else:
        result = sums
    layout: gl.constexpr = result.type.layout
    column = first + gl.arange(0, TILE, layout=gl.SliceLayout(1, layout))
    row = gl.arange(0, ROWS, layout=gl.SliceLayout(0, layout))
    is_inside = (row < rows)[None, :] & (column < columns)[:, None]
    gl.store(out + row[None, :] * columns + column[:, None], result.to(out.dtype.element_ty), mask=is_inside)
