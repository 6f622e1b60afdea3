"""The oracles of skinny_linear and skinny_rotary_write_kv."""

from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gate_mul.reference import gate_mul
from octavo_kernels.rotary_write_kv.reference import rotary_write_kv


def skinny_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gate: GatedActivation | None = None) -> Tensor:
    """See `octavo_kernels.skinny_linear`; summed in float64, and not rounded to the weight's dtype."""
    product = x.double() @ weight.double().T
    product = product if bias is None else product + bias.double()
    return product if gate is None else gate_mul(product, gate)


def skinny_rotary_write_kv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    q: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
) -> None:
    """See `octavo_kernels.skinny_linear`: one after the other."""
    heads = q.shape[1], k_cache.shape[2], k_cache.shape[2]
    product = skinny_linear(x, weight, bias).to(weight.dtype).view(len(x), -1, q.shape[2])
    queries, k, v = product.split(heads, dim=1)
    rotary_write_kv(queries, k, v, positions, cos_sin, k_cache, v_cache, slots)
    q.copy_(queries)
