"""The kernel of grouped_linear for Hopper and one row, in Gluon; `one_row` says how it is made, and launches it."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, disable-error-code=assignment

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import async_copy
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo_kernels.grouped_linear.interleaved_parts import apart, finish, tile_rows
from octavo_kernels.grouped_linear.interleaved_words import base
from octavo_kernels.grouped_linear.one_row_words import multiplication, neighbours_apart
from octavo_kernels.hopper_products import summed, write_turned

BLOCK = gl.constexpr(128)  # numbers of a row that share a scale
BLOCKS = gl.constexpr(8)  # columns of the matrix units' other side, of which each has a block of x


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
def tile_layout(warps):
    """The layout of a tile's sums, [8, 2], which all warps have."""
    return gl.SliceLayout(0, gl.SliceLayout(2, by_lanes([2], warps)))


@gluon.constexpr_function
def turn_layout(warps):
    """The layout of [entries of a head, 1] in which they are turned."""
    return gl.BlockedLayout([1, 1], [8, 4], [warps, 1], [1, 0])


@gluon.constexpr_function
def reads(tiles, warps):
    """How many tiles' sums of squares a thread reads, a power of two."""
    return 1 << (max(1, -(-tiles // (32 * warps))) - 1).bit_length()


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
    """Scales or zero points [warps, 8, 4, 2, 2] of a thread's two rows, and of the two blocks of which it has sums."""
    layout: gl.constexpr = by_lanes([2, 2], FORM.warps)
    one = along(4, 2, 5, layout) * 2 + along(2, 4, 5, layout)
    block = begin + along(FORM.warps, 0, 5, layout) * FORM.each + one
    place = _rows(tile, columns, FORM, layout, 5) * FORM.groups + block
    return gl.load(factors + place, mask=(one < FORM.each) & (block < FORM.groups), other=0)


@gluon.jit
def _inputs(x, begin, FORM: gl.constexpr):
    """Where the words of x are that each thread multiplies, a quarter of a block's, [threads, 16]; whether they are
    there; and shared memory for them."""
    WARPS: gl.constexpr = FORM.warps
    layout: gl.constexpr = gl.BlockedLayout([1, 4], [8, 4], [WARPS, 1], [1, 0])
    thread = gl.arange(0, 32 * WARPS, layout=gl.SliceLayout(1, layout))
    one = thread // 4 % BLOCKS
    block = begin + thread // 32 * FORM.each + one
    word = gl.arange(0, 16, layout=gl.SliceLayout(0, layout))
    place = (block * (BLOCK // 2) + thread % 4 * 16)[:, None] + word[None, :]
    # Neither who writes 16 bytes nor who reads them waits for another.
    shared: gl.constexpr = gl.SwizzledSharedLayout(4, 2, 4, [1, 0])
    inputs = gl.allocate_shared_memory(gl.int32, [32 * WARPS, 16], shared)
    return x + place, ((one < FORM.each) & (block < FORM.groups))[:, None], inputs


@gluon.jit
def _paired(words):
    """[..., 4, 4] words of eight neighbours each as four tuples of four [...]: of the eights the first and the fifth,
    the second and the sixth, and so on, as numbers of 4 bits come out of a word."""
    code: gl.constexpr = neighbours_apart()
    pairs = gl.inline_asm_elementwise(
        code,
        "=&r,=&r,=&r,=&r,r,r,r,r",
        apart(words),
        dtype=(gl.int32, gl.int32, gl.int32, gl.int32),
        is_pure=True,
        pack=1,
    )
    return apart(pairs[0]), apart(pairs[1]), apart(pairs[2]), apart(pairs[3])


@gluon.jit
def _spread(each, WARPS: gl.constexpr):
    """[warps, 8, 4] of any tensor of lanes that can be broadcast to it."""
    return gl.convert_layout(each, by_lanes([], WARPS), assert_trivial=True).broadcast_to([WARPS, 8, 4])


@gluon.jit
def _multiplied(words, terms, WARPS: gl.constexpr, element: gl.constexpr):
    """What the words of a block of the weight bring with each of the warp's blocks of x, four of [warps, 8, 4]: of a
    row with both blocks of which a thread has sums, and of the other row. words: four of either row; terms: of
    `_paired`."""
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
                _spread(terms[0][word], WARPS),
                _spread(terms[1][word], WARPS),
                _spread(terms[2][word], WARPS),
                _spread(terms[3][word], WARPS),
                sums[0],
                sums[1],
                sums[2],
                sums[3],
            ],
            dtype=(gl.float32, gl.float32, gl.float32, gl.float32),
            is_pure=True,
            pack=1,
        )
    return sums


@gluon.jit
def _kept(sums, product, is_own, ODD: gl.constexpr):
    """The sums, with those of a product where it is of a thread's own block, its first or the ODD one."""
    of_row = gl.where(is_own, product[ODD], sums[ODD])
    of_other = gl.where(is_own, product[2 + ODD], sums[2 + ODD])
    return (sums[0], of_row, sums[2], of_other) if ODD else (of_row, sums[1], of_other, sums[3])


@gluon.jit
def _joined(sums, WARPS: gl.constexpr):
    """Four as of `_multiplied` as [warps, 8, 4, 2, 2], of rows, of blocks."""
    every = gl.join(gl.join(sums[0], sums[2]), gl.join(sums[1], sums[3]))
    return gl.convert_layout(every, by_lanes([2, 2], WARPS), assert_trivial=True)


@gluon.jit
def _squares(norm, FORM: gl.constexpr):
    """[warps, 8, 4] float32, which add up along the warps and the last dimension to the sum of the row's squares."""
    EACH: gl.constexpr = reads(FORM.tiles, FORM.warps)
    layout: gl.constexpr = by_lanes([EACH], FORM.warps)
    thread = (along(FORM.warps, 0, 4, layout) * 8 + along(8, 1, 4, layout)) * 4 + along(4, 2, 4, layout)
    tile = thread * EACH + along(EACH, 3, 4, layout)
    parts = gl.load(norm.squares + tile * FORM.tile_stride, mask=tile < FORM.tiles, other=0.0)
    return _spread(gl.expand_dims(gl.sum(gl.sum(parts, axis=3), axis=1), 1), FORM.warps)


@gluon.jit
def _places(turn, tile, FORM: gl.constexpr):
    """The slot of the row, [1], and a tile's cosines and sines [8, 1]."""
    layout: gl.constexpr = turn_layout(FORM.warps)
    row = gl.arange(0, 1, layout=gl.SliceLayout(0, layout))
    slot = gl.load(turn.slots + row)
    position = gl.load(turn.positions + row)
    within = tile % (FORM.half // 8) * 8 + gl.arange(0, 8, layout=gl.SliceLayout(1, layout))
    place = turn.cos_sin + position[None, :] * (2 * FORM.half) + within[:, None]
    return slot, (gl.load(place), gl.load(place + FORM.half))


@gluon.jit
def _turn(sums, bias, turn, slot, angles, tile, BIAS: gl.constexpr, FORM: gl.constexpr):
    """Turns what a tile has of a head, [8, 2] float32, and writes it where it belongs."""
    HALF: gl.constexpr = FORM.half
    head = tile // (HALF // 8)
    layout: gl.constexpr = turn_layout(FORM.warps)
    front, back = gl.split(sums.reshape([8, 1, 2]))
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
def _columns(tile, layout: gl.constexpr):
    """Those of a tile's sums [8, 2]."""
    half = gl.arange(0, 2, layout=gl.SliceLayout(0, layout))
    return tile * 16 + half[None, :] * 8 + gl.arange(0, 8, layout=gl.SliceLayout(1, layout))[:, None]


@gluon.jit
def _begin_norm(sums, before, factors, adding, tile, column, there):
    """Adds a tile's sums [8, 2] float32 to what the stream was before, and begins the norm of what it is then."""
    # The norm is of the stream as it is kept.
    total = (sums + before.to(gl.float32)).to(before.dtype)
    exact = total.to(gl.float32)
    gl.store(adding.stream + column, total, mask=there)
    gl.store(adding.scaled + column, (exact * factors).to(before.dtype), mask=there)
    gl.store(adding.squares + tile, gl.sum(gl.sum(gl.where(there, exact * exact, 0.0), axis=1), axis=0))


@gluon.jit
def one_row_kernel(
    x,
    norm,
    weight,
    scales,
    zeros,
    bias,
    out,
    turn,
    adding,
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

    x: words of [in] of a 16-bit type; norm: where x's RMSNorm is begun, `one_row.Norm`, else None; weight: words of the
    values; scales, zeros or None: as GroupedWeights has them; FORM: `one_row.Form`. bias: as many as the weight has
    rows, read if BIAS; out: [columns]; both of x's type. GATE: an activation of gate_mul, or "". turn: None, or
    `one_row.Turn`: queries, keys and values are turned and written there, and not to out. adding: None, or
    `one_row.Adding`: the product is added to a stream, whose norm is begun, and not written to out. partials:
    [programs, 16] float32; arrivals: [tiles] int32, 0 before and after; used if SPLITS > 1."""
    element: gl.constexpr = out.dtype.element_ty
    WARPS: gl.constexpr = FORM.warps
    EACH: gl.constexpr = FORM.each
    BASE: gl.constexpr = base(4, element == gl.float16)
    of_tile: gl.constexpr = tile_layout(WARPS)
    program = gl.program_id(0)
    tile = program // SPLITS
    begin = program % SPLITS * (WARPS * EACH)
    # The weights do not wait for the kernel in front.
    layout: gl.constexpr = by_lanes([2, 4], WARPS)
    rows = weight + _rows(tile, columns, FORM, layout, 5).to(gl.int64) * (FORM.groups * BLOCK // 8)
    words = ()
    for one in gl.static_range(EACH):
        block = begin + along(WARPS, 0, 5, layout) * EACH + one
        place = block * (BLOCK // 8) + along(4, 2, 5, layout) * 4 + along(4, 4, 5, layout)
        words += (gl.load(rows + place, mask=block < FORM.groups, other=0, eviction_policy="evict_first"),)
    scale = _factors(scales, tile, columns, begin, FORM)
    if zeros is not None:
        zero = _factors(zeros, tile, columns, begin, FORM)
    if adding is not None:
        column = _columns(tile, of_tile)
        there = column < columns
        norm_weight = gl.load(adding.norm_weight + column, mask=there, other=0.0).to(gl.float32) + adding.offset
    sources, are_there, inputs = _inputs(x, begin, FORM)
    gdc_launch_dependents()
    gdc_wait()
    async_copy.async_copy_global_to_shared(inputs, sources, mask=are_there)
    async_copy.commit_group()
    if norm is not None:
        squares = _squares(norm, FORM)
    if turn is not None:
        slot, angles = _places(turn, tile, FORM)
    if adding is not None:
        before = gl.load(adding.stream + column, mask=there, other=0.0)
    async_copy.wait_group(0)

    terms = _paired(inputs.load(gl.BlockedLayout([1, 16], [32, 1], [WARPS, 1], [1, 0])).reshape([WARPS, 8, 4, 4, 4]))
    lanes: gl.constexpr = by_lanes([], WARPS)
    quarter = _spread(along(4, 2, 3, lanes), WARPS)
    none = gl.zeros([WARPS, 8, 4], gl.int32, layout=lanes)
    # Numbers are so much too large: by it words of zeros bring as much too much.
    excess = _multiplied((none, none, none, none, none, none, none, none), terms, WARPS, element)
    nothing = gl.zeros([WARPS, 8, 4], gl.float32, layout=lanes)
    sums = (nothing, nothing, nothing, nothing)
    for one in gl.static_range(EACH):
        product = _multiplied(apart(words[one].reshape([WARPS, 8, 4, 8])), terms, WARPS, element)
        sums = _kept(sums, product, quarter == one // 2, one % 2)
    too_much = _joined(excess, WARPS)
    exact = _joined(sums, WARPS) - too_much
    if zeros is not None:
        exact -= zero.to(gl.float32) * (too_much * (1.0 / BASE))
    both = gl.sum(exact * scale.to(gl.float32), axis=4)
    both = gl.convert_layout(both, by_lanes([2], WARPS), assert_trivial=True)
    if norm is not None:
        of_all = gl.sum(gl.sum(gl.join(both, gl.join(squares, squares)), axis=2), axis=0)
        both, squares = gl.split(of_all)
        both *= gl.rsqrt(squares * (1.0 / (FORM.groups * BLOCK)) + norm.eps)
    else:
        both = gl.sum(gl.sum(both, axis=2), axis=0)
    both = gl.convert_layout(both, of_tile, assert_trivial=True)
    both, last = summed(both, partials, arrivals, program, tile, 8, 2, SPLITS, of_tile)
    if last:
        if turn is not None:
            _turn(both, bias, turn, slot, angles, tile, BIAS, FORM)
        elif adding is not None:
            _begin_norm(both, before, norm_weight, adding, tile, column, there)
        else:
            of_row = both.permute((1, 0)).reshape([16, 1])
            at = tile * (8 if FORM.gated else 16)
            row, is_row = tile_rows(at, columns, 16, FORM.gated, gl.SliceLayout(1, of_row.type.layout))
            finish(of_row, bias, out, 1, columns, at, row, is_row, BIAS, GATE)
