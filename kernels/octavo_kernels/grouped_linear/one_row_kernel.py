"""The kernel of grouped_linear for Hopper and one row, in Gluon; `one_row` says how it is made, and launches it."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, disable-error-code=assignment

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo_kernels.grouped_linear.interleaved_parts import apart, finish, tile_rows
from octavo_kernels.grouped_linear.interleaved_words import PAIR, base
from octavo_kernels.grouped_linear.one_row_words import multiplication, neighbours_apart
from octavo_kernels.hopper_products import summed, write_turned

BLOCK = gl.constexpr(128)  # numbers of a row that share a scale


@gluon.constexpr_function
def by_lanes(registers, warps):
    """The layout of [warps, 8, 4, ...] of which a thread has all of the last dimensions, `registers`."""
    count = len(registers)
    threads, of_warps = [1, 8, 4] + [1] * count, [warps] + [1] * (2 + count)
    return gl.BlockedLayout([1, 1, 1, *registers], threads, of_warps, list(range(3 + count))[::-1])


@gluon.constexpr_function
def only(layout, rank, dim):
    """The layout of one dimension of those that a layout has."""
    for other in reversed(range(rank)):
        if other != dim:
            layout = gl.SliceLayout(other, layout)
    return layout


@gluon.constexpr_function
def turn_layout(warps):
    """The layout of [entries of a head, 4] in which they are turned."""
    return gl.BlockedLayout([1, 1], [8, 4], [warps, 1], [1, 0])


@gluon.jit
def along(COUNT: gl.constexpr, DIM: gl.constexpr, RANK: gl.constexpr, layout: gl.constexpr):
    """0, 1, 2 ... along one dimension."""
    numbers = gl.arange(0, COUNT, layout=only(layout, RANK, DIM))
    for other in gl.static_range(RANK):
        if other != DIM:
            numbers = gl.expand_dims(numbers, other)
    return numbers


@gluon.jit
def _rows(tile, columns, FORM: gl.constexpr, layout: gl.constexpr, RANK: gl.constexpr):
    """The two rows of the weight of which a thread has numbers, eight of each of 16 of a tile. Of a gate, or of heads,
    the second eight are as far behind the first ones as what belongs together."""
    half = along(2, 3, RANK, layout)
    lane = along(8, 1, RANK, layout)
    if FORM.half:
        TILES: gl.constexpr = FORM.half // 8  # of a head
        row = tile // TILES * (2 * FORM.half) + tile % TILES * 8 + lane + half * FORM.half
    elif FORM.gated:
        row = gl.minimum(tile * 8 + lane, columns - 1) + half * columns
    else:
        row = gl.minimum(tile * 16 + half * 8 + lane, columns - 1)
    return row


@gluon.jit
def _factors(factors, tile, columns, begin, FORM: gl.constexpr):
    """Scales or zero points of each warp's blocks, [warps, 8, 4, 2, FORM.together]."""
    layout: gl.constexpr = by_lanes([2, FORM.together], FORM.warps)
    block = begin + along(FORM.warps, 0, 5, layout) * FORM.together + along(FORM.together, 4, 5, layout)
    place = _rows(tile, columns, FORM, layout, 5) * FORM.groups + block + along(4, 2, 5, layout) * 0
    return gl.load(factors + place, mask=block < FORM.groups, other=0)


@gluon.jit
def _paired(words):
    """[..., 4] words of eight neighbours as [..., 4] of the first and the fifth, the second and the sixth, and so on,
    as numbers of 4 bits come out of a word."""
    code: gl.constexpr = neighbours_apart()
    pairs = gl.inline_asm_elementwise(
        code,
        "=&r,=&r,=&r,=&r,r,r,r,r",
        apart(words),
        dtype=(gl.int32, gl.int32, gl.int32, gl.int32),
        is_pure=True,
        pack=1,
    )
    return gl.join(gl.join(pairs[0], pairs[2]), gl.join(pairs[1], pairs[3])).reshape(words.shape)


@gluon.jit
def _sums(words, element: gl.constexpr):
    """Of all numbers of each block, [warps, blocks] float32 of words [warps, blocks, 4, 4, 4]."""
    first, second = gl.inline_asm_elementwise(
        PAIR, "=h,=h,r", [words], dtype=(gl.int16, gl.int16), is_pure=True, pack=1
    )
    numbers = first.to(element, bitcast=True).to(gl.float32) + second.to(element, bitcast=True).to(gl.float32)
    return gl.sum(gl.sum(gl.sum(numbers, axis=4), axis=3), axis=2)


@gluon.jit
def _spread(each, WARPS: gl.constexpr):
    """[warps, 8, 4] of any tensor of lanes that can be broadcast to it."""
    return gl.convert_layout(each, by_lanes([], WARPS), assert_trivial=True).broadcast_to([WARPS, 8, 4])


@gluon.jit
def _multiplied(words, terms, WARPS: gl.constexpr, element: gl.constexpr):
    """A block's sums for each warp of a row of the weight and of another, [warps, 8, 4] each. words: four of either
    row; terms: [warps, 1, 4] words of x, 16 of them."""
    code: gl.constexpr = multiplication(element == gl.float16)
    nothing = gl.zeros([WARPS, 8, 4], gl.float32, layout=by_lanes([], WARPS))
    sums = (nothing, nothing, nothing, nothing)
    for word in gl.static_range(4):
        sums = gl.inline_asm_elementwise(
            code,
            "=&f,=&f,=&f,=&f,r,r,r,r,r,r,f,f,f,f",
            [
                _spread(words[word], WARPS),
                _spread(words[4 + word], WARPS),
                _spread(terms[4 * word], WARPS),
                _spread(terms[4 * word + 1], WARPS),
                _spread(terms[4 * word + 2], WARPS),
                _spread(terms[4 * word + 3], WARPS),
                sums[0],
                sums[1],
                sums[2],
                sums[3],
            ],
            dtype=(gl.float32, gl.float32, gl.float32, gl.float32),
            is_pure=True,
            pack=1,
        )
    return sums[0], sums[2]


@gluon.jit
def _places(turn, tile, FORM: gl.constexpr):
    """The slot of the row, [4], of which the others are padding, and a tile's cosines and sines [8, 4]."""
    layout: gl.constexpr = turn_layout(FORM.warps)
    row = gl.arange(0, 4, layout=gl.SliceLayout(0, layout))
    slot = gl.load(turn.slots + row, mask=row < 1, other=-1)
    position = gl.load(turn.positions + row, mask=row < 1, other=0)
    within = tile % (FORM.half // 8) * 8 + gl.arange(0, 8, layout=gl.SliceLayout(1, layout))
    place = turn.cos_sin + position[None, :] * (2 * FORM.half) + within[:, None]
    return slot, (gl.load(place), gl.load(place + FORM.half))


@gluon.jit
def _turn(sums, bias, turn, slot, angles, tile, BIAS: gl.constexpr, FORM: gl.constexpr):
    """Turns what a tile has of a head, [16, 4] float32, and writes it where it belongs."""
    HALF: gl.constexpr = FORM.half
    head = tile // (HALF // 8)
    layout: gl.constexpr = turn_layout(FORM.warps)
    front, back = gl.split(sums.reshape([2, 8, 4]).permute((1, 2, 0)))
    front = gl.convert_layout(front, layout)
    back = gl.convert_layout(back, layout)
    within = tile % (HALF // 8) * 8 + gl.arange(0, 8, layout=gl.SliceLayout(1, layout))
    if BIAS:
        own = bias + head * (2 * HALF) + within
        front += gl.load(own).to(gl.float32)[:, None]
        back += gl.load(own + HALF).to(gl.float32)[:, None]
    write_turned(
        front,
        back,
        angles[0],
        angles[1],
        turn.q,
        turn.stride_q,
        turn.cache,
        slot,
        1,
        head,
        within,
        FORM.q_heads,
        FORM.kv_heads,
        HALF,
        FORM.block_size,
    )


@gluon.jit
def one_row_kernel(
    x,
    weight,
    scales,
    zeros,
    bias,
    out,
    turn,
    partials,
    arrivals,
    columns,
    FORM: gl.constexpr,
    BIAS: gl.constexpr,
    GATE: gl.constexpr,
    SPLITS: gl.constexpr,
):
    """out = x @ weight.T + bias, summed in float32, or of such sums, GATE(first half) * second half. Grid: (tiles *
    SPLITS,) for tiles of 16 rows of the weight; the FORM's warps.

    x: words of [in] of a 16-bit type; weight: words of the values; scales, zeros or None: as GroupedWeights has them;
    FORM: `one_row.Form`. bias: as many as the weight has rows, read if BIAS; out: [columns]; both of x's type. GATE: an
    activation of gate_mul, or "". turn: None, or `one_row.Turn`: queries, keys and values are turned and written there,
    and not to out. partials: [programs, 16, 4] float32; arrivals: [tiles] int32, 0 before and after; used if SPLITS >
    1."""
    element: gl.constexpr = out.dtype.element_ty
    WARPS: gl.constexpr = FORM.warps
    TOGETHER: gl.constexpr = FORM.together
    BASE: gl.constexpr = base(4, element == gl.float16)
    program = gl.program_id(0)
    tile = program // SPLITS
    begin = program % SPLITS * (WARPS * TOGETHER)
    # The weights do not wait for the kernel in front.
    layout: gl.constexpr = by_lanes([2, 4], WARPS)
    rows = weight + _rows(tile, columns, FORM, layout, 5).to(gl.int64) * (FORM.groups * BLOCK // 8)
    words = ()
    for one in gl.static_range(TOGETHER):
        block = begin + along(WARPS, 0, 5, layout) * TOGETHER + one
        place = block * (BLOCK // 8) + along(4, 2, 5, layout) * 4 + along(4, 4, 5, layout)
        words += (gl.load(rows + place, mask=block < FORM.groups, other=0, eviction_policy="evict_first"),)
    scale = _factors(scales, tile, columns, begin, FORM)
    if zeros is not None:
        zero = _factors(zeros, tile, columns, begin, FORM)
    gdc_launch_dependents()
    gdc_wait()
    # Of blocks, threads, words of a thread, words of eight numbers.
    of_x: gl.constexpr = gl.BlockedLayout([1, 1, 1, 1, 4], [1, 2, 4, 4, 1], [WARPS, 1, 1, 1, 1], [4, 3, 2, 1, 0])
    block = begin + along(WARPS, 0, 5, of_x) * TOGETHER + along(TOGETHER, 1, 5, of_x)
    place = block * (BLOCK // 2) + along(4, 2, 5, of_x) * 16 + along(4, 3, 5, of_x) * 4 + along(4, 4, 5, of_x)
    own = gl.load(x + place, mask=block < FORM.groups, other=0)
    if turn is not None:
        slot, angles = _places(turn, tile, FORM)
    inputs = gl.allocate_shared_memory(
        gl.int32, [WARPS, TOGETHER, 4, 4, 4], gl.SwizzledSharedLayout(1, 1, 1, [4, 3, 2, 1, 0])
    )
    totals = gl.allocate_shared_memory(gl.float32, [WARPS, TOGETHER], gl.SwizzledSharedLayout(1, 1, 1, [1, 0]))
    inputs.store(_paired(own).permute((0, 1, 3, 2, 4)))
    totals.store(_sums(own, element))

    lanes: gl.constexpr = by_lanes([], WARPS)
    by_one: gl.constexpr = by_lanes([TOGETHER], WARPS)
    total = totals.load(gl.SliceLayout(1, gl.SliceLayout(2, by_one)))
    total = apart(gl.expand_dims(gl.expand_dims(total, 1), 2))
    of_scale = scale.to(gl.float32)
    # Numbers are so much too large.
    shift = of_scale * BASE if zeros is None else of_scale * (zero.to(gl.float32) + BASE)
    of_scale = apart(of_scale.reshape([WARPS, 8, 4, 2 * TOGETHER]))
    shift = apart(shift.reshape([WARPS, 8, 4, 2 * TOGETHER]))
    first = gl.zeros([WARPS, 8, 4], gl.float32, layout=lanes)
    second = first
    of_terms: gl.constexpr = gl.BlockedLayout([1, 1, 4, 1, 4], [1, 8, 1, 4, 1], [WARPS, 1, 1, 1, 1], [4, 3, 2, 1, 0])
    for one in gl.static_range(TOGETHER):
        terms = inputs.slice(one, 1, dim=1).load(of_terms).permute((0, 1, 3, 2, 4))
        terms = apart(terms.reshape([WARPS, 1, 4, 16]))
        product = _multiplied(apart(words[one].reshape([WARPS, 8, 4, 8])), terms, WARPS, element)
        of_block = _spread(total[one], WARPS)
        first += product[0] * _spread(of_scale[one], WARPS) - of_block * _spread(shift[one], WARPS)
        second += product[1] * _spread(of_scale[TOGETHER + one], WARPS)
        second -= of_block * _spread(shift[TOGETHER + one], WARPS)
    sums = gl.sum(gl.join(first, second), axis=0).permute((2, 0, 1)).reshape([16, 4])
    of_sums: gl.constexpr = sums.type.layout
    sums, last = summed(sums, partials, arrivals, program, tile, 16, 4, SPLITS, of_sums)
    if last:
        if turn is not None:
            _turn(sums, bias, turn, slot, angles, tile, BIAS, FORM)
        else:
            at = tile * (8 if FORM.gated else 16)
            row, there = tile_rows(at, columns, 16, FORM.gated, gl.SliceLayout(1, of_sums))
            finish(sums, bias, out, 1, columns, at, row, there, BIAS, GATE)
