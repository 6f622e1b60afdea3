"""What kernels for Hopper share that multiply by weights whose words they unpack, in Gluon: the factors that a thread
needs, a step of the sums, and their end."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, warpgroup_mma, warpgroup_mma_wait

from octavo_kernels.grouped_linear.interleaved_parts import stage_words
from octavo_kernels.grouped_linear.words import operand_of


@gluon.constexpr_function
def factors_in_threads():
    """The layout of [64, 4] in which each of the four threads that share a row has one."""
    return gl.DistributedLinearLayout(
        [[8, 0]], [[0, 1], [0, 2], [1, 0], [2, 0], [4, 0]], [[16, 0], [32, 0]], [], [64, 4]
    )


@gluon.jit
def factors_of(factors, row, step, FORM: gl.constexpr, layout: gl.constexpr):
    """The scale and the zero point, as they are stored, of what a thread takes in a step, [64, 4]; row: [64], of the
    weight. Of the last group behind all."""
    scale, zero = row[:, None], row[:, None]
    if FORM.scaled:
        group = (step * 128 + 32 * gl.arange(0, 4, layout=gl.SliceLayout(0, layout))) // FORM.wide
        group = gl.minimum(group, FORM.groups - 1)[None, :]
        scale = gl.load(factors.scales + (row // FORM.high)[:, None] * FORM.groups + group)
        zero = gl.zeros_like(scale)
        if factors.zeros is not None:
            zero = gl.load(factors.zeros + row[:, None] * FORM.groups + group)
    return scale, zero


@gluon.jit
def narrow_step(sums, inputs, weights, box, stage, factors, FORM: gl.constexpr, operand: gl.constexpr):
    """The sums of both parts of a tile and a stage of narrow weights, which lie in two boxes from `box` on. factors:
    see `factors_of`, of both."""
    first, second = sums
    element: gl.constexpr = inputs.dtype
    words = stage_words(weights.index(box), 4)
    others = stage_words(weights.index(box + 1), 4)
    EACH: gl.constexpr = len(words) // 4  # that make 32 numbers
    held = ()
    for part in gl.static_range(4):
        terms = inputs.index(2 * stage + part // 2).slice(part % 2 * 32, 32, dim=1).permute((1, 0))
        word, more = words[EACH * part], words[EACH * part + EACH - 1]
        own = operand_of(word, more, factors[0], factors[1], FORM, element, operand)
        first = warpgroup_mma(own, terms, first, is_async=True)
        word, more = others[EACH * part], others[EACH * part + EACH - 1]
        other = operand_of(word, more, factors[2], factors[3], FORM, element, operand)
        second = warpgroup_mma(other, terms, second, is_async=True)
        held = held + (own, other)  # type: ignore[assignment]  # noqa: RUF005 (Triton knows no unpacking)
    done = warpgroup_mma_wait(0, deps=(first, second) + held)  # noqa: RUF005
    return done[0], done[1]


@gluon.jit
def narrow_sums(
    factors,
    row,
    other_row,
    begin,
    STEPS: gl.constexpr,
    ring,
    count,
    GROUP: gl.constexpr,
    FORM: gl.constexpr,
    layout: gl.constexpr,
):
    """The sums of both parts of a tile, [64, rows] float32 of that layout, from step `begin` on, by a computing
    warpgroup; and how many stages it has read then. row, other_row: [64] int64, of the weight, for the parts, as
    `factors_in_threads` has them; ring: inputs and weights in shared memory, of which each GROUP has two boxes of a
    stage, and their barriers; count: stages that were read before."""
    inputs, weights, ready, free = ring
    STAGES: gl.constexpr = ready.shape[0]
    ROWS: gl.constexpr = inputs.shape[1]
    BOXES: gl.constexpr = weights.shape[0] // STAGES
    operand: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=layout, k_width=2)
    of_factors: gl.constexpr = factors_in_threads()
    first = gl.zeros([64, ROWS], gl.float32, layout=layout)
    second = gl.zeros([64, ROWS], gl.float32, layout=layout)
    scale, zero = factors_of(factors, row, begin, FORM, of_factors)
    other_scale, other_zero = factors_of(factors, other_row, begin, FORM, of_factors)
    for step in range(begin, begin + STEPS):
        stage = count % STAGES
        # The next step's are on their way while this one computes.
        next_scale, next_zero = factors_of(factors, row, step + 1, FORM, of_factors)
        next_other_scale, next_other_zero = factors_of(factors, other_row, step + 1, FORM, of_factors)
        mbarrier.wait(ready.index(stage), (count // STAGES) & 1)
        own = (scale, zero, other_scale, other_zero)
        box = BOXES * stage + 2 * GROUP
        first, second = narrow_step((first, second), inputs, weights, box, stage, own, FORM, operand)
        mbarrier.arrive(free.index(stage), count=1)
        scale, zero, other_scale, other_zero = next_scale, next_zero, next_other_scale, next_other_zero
        count += 1
    return first, second, count


@gluon.jit
def finished(sums, factors, biases, row, FORM: gl.constexpr):
    """With the scale of each of the weight's rows, where it has one alone, and the bias. row: [64], of the weight."""
    if FORM.kind != "wide" and not FORM.scaled:
        sums *= gl.load(factors.scales + row // FORM.high).to(gl.float32)[:, None]
    if biases is not None:
        sums += gl.load(biases + row).to(gl.float32)[:, None]
    return sums
