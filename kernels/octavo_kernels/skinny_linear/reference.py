"""The oracles of skinny_linear, skinny_add_linear and skinny_rotary_write_kv."""

from torch import Tensor

from octavo_kernels.begun_norm import BegunNorm
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gate_mul.reference import gate_mul
from octavo_kernels.rotary_write_kv.reference import rotary_write_kv


def skinny_linear(
    x: Tensor | BegunNorm, weight: Tensor, bias: Tensor | None = None, gate: GatedActivation | None = None
) -> Tensor:
    """See `octavo_kernels.skinny_linear`; summed in float64, and not rounded to the weight's dtype."""
    product = ended(x) @ weight.double().T
    product = product if bias is None else product + bias.double()
    return product if gate is None else gate_mul(product, gate)


def ended(x: Tensor | BegunNorm) -> Tensor:
    """The rows themselves, in float64."""
    if isinstance(x, Tensor):
        return x.double()
    rows, hidden = x.scaled.shape
    means = x.squares.double().sum(0)[:rows] / hidden
    return x.scaled.double() * (means + x.eps).rsqrt()[:, None]


def skinny_add_linear(
    x: Tensor, weight: Tensor, stream: Tensor, norm_weight: Tensor, eps: float, offset: float = 0.0
) -> BegunNorm:
    """See `octavo_kernels.skinny_linear`; all columns are one tile."""
    stream.copy_(stream.double() + skinny_linear(x, weight))
    rows = stream.double()
    scaled = (rows * (offset + norm_weight.double())).to(stream.dtype)
    return BegunNorm(scaled, rows.square().sum(1).float()[None], eps)


def skinny_rotary_write_kv(
    x: Tensor | BegunNorm,
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
    product = skinny_linear(x, weight, bias).to(weight.dtype).view(len(q), -1, q.shape[2])
    queries, k, v = product.split(heads, dim=1)
    rotary_write_kv(queries, k, v, positions, cos_sin, k_cache, v_cache, slots)
    q.copy_(queries)
