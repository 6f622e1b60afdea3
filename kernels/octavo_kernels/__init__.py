"""The engine's numeric kernels.

Each op is a folder: `reference.py` is the oracle (slow, obvious), `triton.py` the GPU form, `cpu.py` the form for CPUs
(torch, or loops in C++: `cpu.hpp`), and `cases.py` the table of shapes, dtypes and tolerances that both are tested
on. A call runs the form that fits the device of its tensors, which is imported on its first call: Triton never on a CPU
machine, the compiled loops never on a GPU.

skinny_linear and gated_linear have one form, for Hopper: elsewhere products are the vendor's library's.

What serves few rows on a CPU has no GPU form: quantized_linear and wide_linear. `native/` is what the CPU's loops are
written, compiled and called with, and how a step's calls of them are recorded and replayed: then the tensors are of
torch's device "meta". What serves a GPU's captured decode step has no CPU form but the oracle: decode_inputs and
draw_tokens. Nor has what is for many rows there: int8_linear. peer_sum is of several GPUs, and has no other form.
"""

from octavo_kernels.add_rms_norm import add_rms_norm
from octavo_kernels.decode_inputs import decode_inputs
from octavo_kernels.draw_tokens import draw_tokens
from octavo_kernels.experts import experts
from octavo_kernels.gate_mul import gate_mul
from octavo_kernels.grouped_linear import grouped_linear
from octavo_kernels.int8_linear import int8_linear
from octavo_kernels.latent_decode import latent_decode
from octavo_kernels.paged_decode import paged_decode
from octavo_kernels.paged_prefill import paged_prefill
from octavo_kernels.rms_norm import rms_norm
from octavo_kernels.rotary_write_kv import rotary_write_kv
from octavo_kernels.rotary_write_latent import rotary_write_latent
from octavo_kernels.write_kv import write_kv

__all__ = [
    "add_rms_norm",
    "decode_inputs",
    "draw_tokens",
    "experts",
    "gate_mul",
    "grouped_linear",
    "int8_linear",
    "latent_decode",
    "paged_decode",
    "paged_prefill",
    "rms_norm",
    "rotary_write_kv",
    "rotary_write_latent",
    "write_kv",
]
