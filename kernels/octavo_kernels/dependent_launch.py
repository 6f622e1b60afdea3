"""Programmatic dependent launch, from Hopper on: a kernel is launched before the one in front of it has ended, and
waits for it itself, so that no time passes between the two."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo_kernels.gpu import capability


@triton.jit
def wait_for_last(DEPENDENT: tl.constexpr):
    """Lets the next kernel start, then waits for the one in front to end; for any grid, called by every program. Comes
    before whatever an earlier kernel may have written or may still read. Triton's interpreter does not know it, so it
    compiles to nothing unless DEPENDENT."""
    if DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def wait_holding_next(DEPENDENT: tl.constexpr):
    """As wait_for_last, but the next kernel starts when this one has ended: those behind the next one may read what
    this one writes, and what was written before it, ahead of their own waiting."""
    if DEPENDENT:
        gdc_wait()


@triton.jit
def prefetch(pointers, BYTES: tl.constexpr):
    """Has BYTES behind each of the pointers, a multiple of 16 from a multiple of 16 on, fetched into the second cache;
    from Hopper on."""
    tl.inline_asm_elementwise(
        f"cp.async.bulk.prefetch.L2.global [$1], {BYTES}; mov.b32 $0, 0;",
        "=r,l",
        [pointers.to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


def launch_options(device: torch.device) -> dict[str, bool]:
    """What a kernel with the parameter DEPENDENT is launched with."""
    if device.type == "cuda" and capability(device) >= (9, 0):
        return {"DEPENDENT": True, "launch_pdl": True}
    return {"DEPENDENT": False}
