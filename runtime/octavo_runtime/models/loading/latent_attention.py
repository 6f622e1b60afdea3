"""From named tensors to the latent attention of a layer."""

import torch
from torch import Tensor

from octavo_runtime.layers.cache_place import CachePlace
from octavo_runtime.layers.latent_attention import LatentAttention
from octavo_runtime.layers.linear import Linear, build_linear
from octavo_runtime.layers.norm import RMSNorm
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.models.latent_projections import (
    COMPRESSION,
    EXPANSION,
    FROM_QUERY_LATENT,
    OUTPUT,
    QUERIES,
    QUERY_LATENT,
    latent_projections,
)
from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor, dense, fuse_rows
from octavo_runtime.models.spec import LatentHeads, ModelSpec

_QUERY_NORM, _LATENT_NORM = "self_attn.q_a_layernorm", "self_attn.kv_a_layernorm"
_NORM_EPS = 1e-6  # of the latents' norms, whatever the configuration says of the others


def build_latent_attention(
    spec: ModelSpec,
    at: str,
    read: ReadTensor,
    rotary: RotaryEmbedding,
    cache_place: CachePlace,
    device: torch.device,
    dtype: torch.dtype,
) -> LatentAttention:
    """Reads the attention of the layer whose tensors' names begin with `at`."""
    has = _of(spec)
    shapes = latent_shapes(spec, at)

    def stored(name: str) -> StoredTensor:
        return fuse_rows([read(at + name, shapes[at + name])], device, dtype)

    def place(name: str) -> Tensor:
        return dense(read(at + name, shapes[at + name])).to(device=device, dtype=dtype)

    def projection(name: str, turned: Tensor | None = None) -> Linear:
        """turned: [..., rope], rows that the rotary embedding turns."""
        weight = stored(f"{name}.weight")
        bias = place(f"{name}.bias") if f"{at}{name}.bias" in shapes else None
        if turned is not None and spec.interleaved_rope:
            order = _in_halves(weight.shape[0], turned)
            weight = weight[order] if isinstance(weight, Tensor) else weight.rows(order)
            bias = None if bias is None else bias[order]
        return build_linear(weight, bias, device, dtype)

    def norm(name: str) -> RMSNorm:
        return RMSNorm(place(f"{name}.weight"), _NORM_EPS)

    rope, by_latent = spec.rotated, has.query_rank is not None
    of_queries = torch.arange(spec.num_heads * spec.head_dim).view(-1, spec.head_dim)[:, -rope:]
    expansion = dense(stored(f"{EXPANSION}.weight")).to(device=device, dtype=dtype)
    return LatentAttention(
        queries=projection(FROM_QUERY_LATENT if by_latent else QUERIES, of_queries),
        compression=projection(COMPRESSION, torch.arange(has.rank, has.rank + rope)),
        latent_norm=norm(_LATENT_NORM),
        expansion=expansion.view(spec.num_heads, -1, has.rank),
        output=projection(OUTPUT),
        rotary=rotary,
        head_dim=spec.head_dim,
        value_dim=has.value_dim,
        scale=spec.attention_scale or spec.head_dim**-0.5,
        place=cache_place,
        query_latent=projection(QUERY_LATENT) if by_latent else None,
        query_norm=norm(_QUERY_NORM) if by_latent else None,
    )


def latent_shapes(spec: ModelSpec, at: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that build_latent_attention reads."""
    has, weights = _of(spec), latent_projections(spec)
    norms = {_LATENT_NORM: has.rank}
    with_bias = {COMPRESSION, OUTPUT} if has.has_biases else set()
    if has.query_rank is not None:
        norms[_QUERY_NORM] = has.query_rank
        with_bias |= {QUERY_LATENT} if has.has_biases else set()
    shapes: dict[str, tuple[int, ...]] = {f"{at}{name}.weight": shape for name, shape in weights.items()}
    shapes |= {f"{at}{name}.weight": (width,) for name, width in norms.items()}
    return shapes | {f"{at}{name}.bias": (weights[name][0],) for name in with_bias}


def _of(spec: ModelSpec) -> LatentHeads:
    assert spec.latent is not None
    return spec.latent


def _in_halves(rows: int, turned: Tensor) -> Tensor:
    """The order of so many rows in which the rotary embedding turns halves of the last dimension of `turned`, where
    they are stored to turn neighbours."""
    order = torch.arange(rows)
    order[turned] = torch.cat((turned[..., ::2], turned[..., 1::2]), dim=-1)
    return order
