"""Keys and values of 8 bits in shared memory to 16, in Gluon; what a warpgroup of paged_prefill's kernel for Hopper
does."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from octavo_kernels.eight_bits_kernels import FP8 as STORED_FP8
from octavo_kernels.paged_prefill.hopper_tile import tile_of

FP8 = gl.constexpr(STORED_FP8)
KEEP_NAN = gl.constexpr(tl.PropagateNan.ALL)
ROWS = gl.constexpr(32)  # widened at a time: 8 registers of a thread, which become 16

# Four numbers at a time.
_FP8_TO_F16 = gl.constexpr("""{
.reg .b16 front, back;
mov.b32 {front, back}, $2;
cvt.rn.f16x2.e4m3x2 $0, front;
cvt.rn.f16x2.e4m3x2 $1, back;
}""")
# Signed bytes whose sign is turned are 128 more: in the last bits of 1024 in float16.
_INT8_TO_F16 = gl.constexpr("""{
.reg .b32 turned, front, back, base;
mov.b32 base, 0x64806480;
xor.b32 turned, $2, 0x80808080;
prmt.b32 front, turned, 0x64646464, 0x4140;
prmt.b32 back, turned, 0x64646464, 0x4342;
sub.f16x2 $0, front, base;
sub.f16x2 $1, back, base;
}""")


@gluon.jit
def in_float16(number):
    """Of any float; what float16 does not reach to becomes its largest number."""
    bounded = gl.maximum(number.to(gl.float32), -65504.0, propagate_nan=KEEP_NAN)
    return gl.minimum(bounded, 65504.0, propagate_nan=KEEP_NAN).to(gl.float16)


@gluon.jit
def widen_run(index, source, target, STAGES: gl.constexpr, KIND: gl.constexpr):
    """Widens a run of 128 keys or values of one head. index: of the run among all that the program takes. source:
    bytes [stages, 128, 128] of a KIND, and the barriers of their stages, copied and taken: when one is filled,
    and when it has been read; target: float16 [STAGES, 128, 128], and likewise ready and free."""
    layout: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])
    stored, copied, taken = source
    widened, ready, free = target
    NARROW: gl.constexpr = stored.shape[0]
    place = index % NARROW
    stage = index % STAGES
    mbarrier.wait(copied.index(place), (index // NARROW) & 1)
    mbarrier.wait(free.index(stage), ((index // STAGES) & 1) ^ 1)
    for part in gl.static_range(128 // ROWS):
        numbers = gl.inline_asm_elementwise(
            _FP8_TO_F16 if KIND == FP8 else _INT8_TO_F16,
            "=r,=r,r",
            [stored.index(place).slice(part * ROWS, ROWS, dim=0).load(layout)],
            dtype=gl.float16,
            is_pure=True,
            pack=4,
        )
        widened.index(stage).slice(part * ROWS, ROWS, dim=0).store(numbers)
    fence_async_shared()
    gl.thread_barrier()  # all threads have read and written before it is told
    mbarrier.arrive(taken.index(place), count=1)
    mbarrier.arrive(ready.index(stage), count=1)


@gluon.jit
def widen_all(
    work,
    narrow_keys,
    narrow_values,
    keys,
    values,
    HEADS: gl.constexpr,
    STAGES: gl.constexpr,
    KIND: gl.constexpr,
):
    """The widening warpgroup, for one program of `prefill_kernel`, whose arguments it takes, in the order in which
    `copy_all` copies. narrow_keys, narrow_values: what that fills; keys, values: what `compute` reads."""
    tiles, count, turns, query_start, seq_lens = work
    k_shared, k_ready, k_free = keys
    v_shared, v_ready, v_free = values
    swizzled: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    k_shared = k_shared._reinterpret(gl.float16, [STAGES, 128, 128], swizzled)
    v_shared = v_shared._reinterpret(gl.float16, [STAGES, 128, 128], swizzled)
    runs_before = 0
    for turn in range(turns):
        runs = tile_of(turn, tiles, count, query_start, seq_lens, HEADS)[6]
        for step in range(runs + 1):
            index = runs_before + step
            if step < runs:
                widen_run(index, narrow_keys, (k_shared, k_ready, k_free), STAGES, KIND)
            if step > 0:
                widen_run(index - 1, narrow_values, (v_shared, v_ready, v_free), STAGES, KIND)
        runs_before += runs
