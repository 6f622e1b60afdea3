"""gate_mul for the CPU."""

from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.native import TYPES, loop, workers

# Below this many numbers, starting the other threads takes longer than they save.
_FEW = 32768

_KINDS: tuple[GatedActivation, ...] = ("silu", "gelu_tanh", "gelu")  # as in cpu.hpp
_gate_mul = loop("gate_mul", "iipipiiii")


def gate_mul(gate_up: Tensor, activation: GatedActivation, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.gate_mul`. 16-bit types are rounded once."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, width) if out is None else out
    threads = 1 if out.numel() <= _FEW else workers()
    kind = _KINDS.index(activation)
    _gate_mul(TYPES[gate_up.dtype], kind, gate_up, gate_up.stride(0), out, out.stride(0), rows, width, threads)
    return out
