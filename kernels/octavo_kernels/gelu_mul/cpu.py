"""gelu_mul for the CPU."""

from torch import Tensor

from octavo_kernels.native import TYPES, loop, workers

# Below this many numbers, starting the other threads takes longer than they save.
_FEW = 32768

_gelu_mul = loop("gelu_mul", "ipipiiii")


def gelu_mul(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.gelu_mul`. 16-bit types are rounded once."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, width) if out is None else out
    _gelu_mul(
        TYPES[gate_up.dtype], gate_up, gate_up.stride(0), out, out.stride(0), rows, width,
        1 if out.numel() <= _FEW else workers(),
    )  # fmt: skip
    return out
