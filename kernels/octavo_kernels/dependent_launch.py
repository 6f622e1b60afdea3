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


def launch_options(device: torch.device) -> dict[str, bool]:
    """What a kernel with the parameter DEPENDENT is launched with."""
    if device.type == "cuda" and capability(device) >= (9, 0):
        return {"DEPENDENT": True, "launch_pdl": True}
    return {"DEPENDENT": False}
