"""The kernel of grouped_linear for Hopper, in Gluon; `hopper` says how it is made, and launches it."""

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

from octavo_kernels.hopper_products import summed

# A pair of numbers in 16 bits each, the first in the lower ones.
_PAIR = gl.constexpr("mov.b32 {$0, $1}, $2;")
# A byte's two halves, each beside the upper byte of 1024 in float16, of 128 in bfloat16, are that number and what they
# stand for. The product puts the upper half in place.
_HALVES = """{
.reg .b32 both, upper;
mov.b32 upper, UPPER;
mul.lo.u32 both, $1, 0x1001;
lop3.b32 $0, both, 0x000F000F, upper, 0xEA;
}"""
_HALVES_TO_F16 = gl.constexpr(_HALVES.replace("UPPER", "0x64006400"))
_HALVES_TO_BF16 = gl.constexpr(_HALVES.replace("UPPER", "0x43004300"))
# The bits of FP8 (e4m3), moved to where the wider type has them, are the number over 2 ** 8 in float16, over 2 ** 120
# in bfloat16.
_FP8 = """{
.reg .b32 apart, moved, factor;
mov.b32 factor, FACTOR;
prmt.b32 apart, $1, 0, 0x1404;
shr.u32 moved, apart, PLACES;
and.b32 moved, moved, MASK;
lop3.b32 moved, apart, 0x80008000, moved, 0xEA;
mul.TYPE $0, moved, factor;
}"""
_FP8_TO_F16 = gl.constexpr(
    _FP8.replace("FACTOR", "0x5C005C00").replace("PLACES", "1").replace("MASK", "0x3F803F80").replace("TYPE", "f16x2")
)
_FP8_TO_BF16 = gl.constexpr(
    _FP8.replace("FACTOR", "0x7B807B80").replace("PLACES", "4").replace("MASK", "0x07F007F0").replace("TYPE", "bf16x2")
)
# Signed bytes whose sign is turned are 128 more: in the last bits of 1024 in float16.
_INT8_TO_F16 = gl.constexpr("""{
.reg .b32 turned, base;
mov.b32 base, 0x64806480;
xor.b32 turned, $1, 0x8080;
prmt.b32 turned, turned, 0x64646464, 0x4140;
sub.f16x2 $0, turned, base;
}""")
# Of 2 ** 23 in float32, since bfloat16 has too few.
_INT8_TO_BF16 = gl.constexpr("""{
.reg .b32 turned, one, other;
.reg .f32 first, second;
xor.b32 turned, $1, 0x8080;
prmt.b32 one, turned, 0x4B000000, 0x7540;
prmt.b32 other, turned, 0x4B000000, 0x7541;
mov.b32 first, one;
mov.b32 second, other;
sub.f32 first, first, 0f4B000080;
sub.f32 second, second, 0f4B000080;
cvt.rn.bf16x2.f32 $0, second, first;
}""")


@gluon.jit
def _factor(factors, depth, mask, GROUPS: gl.constexpr, WIDE: gl.constexpr):
    """The scales or zero points of the group that a depth is in, float32; the last group's behind all."""
    return gl.load(factors + gl.minimum(depth // WIDE, GROUPS - 1), mask=mask, other=0.0).to(gl.float32)


@gluon.jit
def _unpacked(stored, KIND: gl.constexpr, element: gl.constexpr):
    """[columns, DEPTH] of `element`, of pairs of numbers [columns, DEPTH / 2]: bytes where KIND is
    int4, else 16 bits; integers of 4 bits with 1024 more in float16, 128 more in bfloat16."""
    IS_F16: gl.constexpr = element == gl.float16
    INT4: gl.constexpr = _HALVES_TO_F16 if IS_F16 else _HALVES_TO_BF16
    INT8: gl.constexpr = _INT8_TO_F16 if IS_F16 else _INT8_TO_BF16
    FP8: gl.constexpr = _FP8_TO_F16 if IS_F16 else _FP8_TO_BF16
    asm: gl.constexpr = INT4 if KIND == "int4" else INT8 if KIND == "int8" else FP8
    pairs = gl.inline_asm_elementwise(asm, "=r,r", [stored.to(gl.int32)], dtype=gl.int32, is_pure=True, pack=1)
    first, second = gl.inline_asm_elementwise(
        _PAIR, "=h,=h,r", [pairs], dtype=(gl.int16, gl.int16), is_pure=True, pack=1
    )
    bits = gl.join(first, second).reshape([stored.shape[0], stored.shape[1] * 2])
    return bits.to(element, bitcast=True)


@gluon.jit(do_not_specialize=["rows"])
def grouped_kernel(
    x,
    weight,
    scales,
    zeros,
    bias,
    out,
    partials,
    arrivals,
    rows,
    columns,
    steps,
    KIND: gl.constexpr,
    ZEROS: gl.constexpr,
    BIAS: gl.constexpr,
    GROUPS: gl.constexpr,
    HIGH: gl.constexpr,
    WIDE: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    DEPTH: gl.constexpr,
    SPLITS: gl.constexpr,
    STAGES: gl.constexpr,
):
    """out = x @ weight.T + bias, summed in float32. Grid: (ceil(columns / COLUMNS) * SPLITS,); four warps.

    x: a descriptor of [rows, width] of a 16-bit type, in tiles of [ROWS, DEPTH]; weight: of pairs of numbers, [columns,
    width / 2], in tiles of [COLUMNS, DEPTH / 2], bytes where KIND is int4, 16 bits where it is int8 or fp8. scales:
    [ceil(columns / HIGH), GROUPS]; zeros: [columns, GROUPS], read if ZEROS; bias: [columns], read if BIAS; out: [rows,
    columns]; both of x's type. GROUPS: one, or each of WIDE numbers of a row, a multiple of DEPTH / 2.
    partials: [programs, COLUMNS, ROWS] float32; arrivals: [programs / SPLITS] int32, 0 before and after; used if SPLITS
    > 1. steps: tiles of DEPTH numbers that a program reads. ROWS: rows, up to a power of two from 8. STAGES: of the
    ring."""
    program = gl.program_id(0)
    tile = program // SPLITS
    first = tile * COLUMNS
    begin = program % SPLITS * steps * DEPTH
    element: gl.constexpr = x.dtype
    PAIRS: gl.constexpr = DEPTH // 2
    HALF: gl.constexpr = DEPTH // 2  # of a stage
    BYTES: gl.constexpr = COLUMNS * PAIRS * (1 if KIND == "int4" else 2) + ROWS * DEPTH * 2  # of a stage
    weights = gl.allocate_shared_memory(weight.dtype, [STAGES, COLUMNS, PAIRS], weight.layout)
    inputs = gl.allocate_shared_memory(element, [STAGES, ROWS, DEPTH], x.layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
    fence_async_shared()
    # The weights do not wait for the kernel in front.
    for stage in gl.static_range(STAGES):
        if stage < steps:
            mbarrier.expect(ready.index(stage), BYTES)
            pair = begin // 2 + stage * PAIRS
            tma.async_copy_global_to_shared(weight, [first, pair], ready.index(stage), weights.index(stage))
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, ROWS, 16])
    operand: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=layout, k_width=2)
    # A thread reads the pairs whose numbers it hands to the matrix units.
    stored: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=layout, k_width=1)
    scaled = first + gl.arange(0, COLUMNS, layout=gl.SliceLayout(1, layout))
    shifted = first + gl.arange(0, COLUMNS, layout=gl.SliceLayout(1, operand))
    is_scaled = scaled < columns
    is_shifted = shifted < columns
    scales += scaled // HIGH * GROUPS
    zeros += shifted * GROUPS
    BASE: gl.constexpr = (1024.0 if element == gl.float16 else 128.0) if KIND == "int4" else 0.0
    # A stage is of two groups, or of one.
    scale = _factor(scales, begin, is_scaled, GROUPS, WIDE)
    other_scale = _factor(scales, begin + HALF, is_scaled, GROUPS, WIDE)
    zero = gl.full([COLUMNS], BASE, gl.float32, layout=gl.SliceLayout(1, operand))
    other_zero = zero
    if ZEROS:
        zero += _factor(zeros, begin, is_shifted, GROUPS, WIDE)
        other_zero += _factor(zeros, begin + HALF, is_shifted, GROUPS, WIDE)
    gdc_launch_dependents()
    gdc_wait()
    for stage in gl.static_range(STAGES):
        if stage < steps:
            tma.async_copy_global_to_shared(x, [0, begin + stage * DEPTH], ready.index(stage), inputs.index(stage))

    sums = gl.zeros([COLUMNS, ROWS], gl.float32, layout=layout)
    for step in range(steps):
        place = step % STAGES
        next_scale, next_other_scale, next_zero, next_other_zero = scale, other_scale, zero, other_zero
        if GROUPS > 1:
            # The next step's factors are on their way while this one computes.
            following = begin + (step + 1) * DEPTH
            next_scale = _factor(scales, following, is_scaled, GROUPS, WIDE)
            next_other_scale = _factor(scales, following + HALF, is_scaled, GROUPS, WIDE)
            if ZEROS:
                next_zero = _factor(zeros, following, is_shifted, GROUPS, WIDE) + BASE
                next_other_zero = _factor(zeros, following + HALF, is_shifted, GROUPS, WIDE) + BASE
        mbarrier.wait(ready.index(place), (step // STAGES) & 1)
        numbers = _unpacked(weights.index(place).load(stored), KIND, element)
        terms = inputs.index(place)
        if GROUPS > 1:
            numbers, others = gl.split(numbers.reshape([COLUMNS, 2, HALF]).permute((0, 2, 1)))
            numbers = gl.convert_layout(numbers, operand)
            others = gl.convert_layout(others, operand)
            if ZEROS or KIND == "int4":
                numbers -= zero.to(element)[:, None]
                others -= other_zero.to(element)[:, None]
            nothing = gl.zeros([COLUMNS, ROWS], gl.float32, layout=layout)
            terms_of_others = terms.slice(HALF, HALF, dim=1).permute((1, 0))
            terms = terms.slice(0, HALF, dim=1).permute((1, 0))
            product = warpgroup_mma(numbers, terms, nothing, use_acc=False, is_async=True)
            other = warpgroup_mma(others, terms_of_others, nothing, use_acc=False, is_async=True)
            product, other = warpgroup_mma_wait(0, deps=[product, other])
            sums += product * scale[:, None] + other * other_scale[:, None]
        else:
            numbers = gl.convert_layout(numbers, operand)
            if ZEROS or KIND == "int4":
                numbers -= zero.to(element)[:, None]
            sums = warpgroup_mma(numbers, terms.permute((1, 0)), sums)
        if step + STAGES < steps:
            depth = begin + (step + STAGES) * DEPTH
            mbarrier.expect(ready.index(place), BYTES)
            tma.async_copy_global_to_shared(weight, [first, depth // 2], ready.index(place), weights.index(place))
            tma.async_copy_global_to_shared(x, [0, depth], ready.index(place), inputs.index(place))
        scale, other_scale, zero, other_zero = next_scale, next_other_scale, next_zero, next_other_zero

    sums, last = summed(sums, partials, arrivals, program, tile, COLUMNS, ROWS, SPLITS, layout)
    if last:
        if GROUPS == 1:
            sums *= scale[:, None]
        if BIAS:
            sums += gl.load(bias + scaled, mask=is_scaled, other=0.0).to(gl.float32)[:, None]
        row = gl.arange(0, ROWS, layout=gl.SliceLayout(0, layout))
        there = (row < rows)[None, :] & is_scaled[:, None]
        gl.store(out + row[None, :] * columns + scaled[:, None], sums.to(element), mask=there)
