"""From named tensors to a decoder: projections that run together are stored fused."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from octavo_runtime.distributed.group import Group, Link
from octavo_runtime.layers.attention import Attention
from octavo_runtime.layers.embedding import Embedding
from octavo_runtime.layers.experts import Experts
from octavo_runtime.layers.latent_attention import LatentAttention
from octavo_runtime.layers.linear import Linear, PackedLinear, build_linear, in_groups, pack_linear, packs
from octavo_runtime.layers.lm_head import Head, build_lm_head
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import HeadLayerNorm, HeadNorm, LayerNorm, Norm, ProjectedNorm, RMSNorm, Unnormed
from octavo_runtime.layers.parallel import GatheredHead, NormOfSum, SummingNorm
from octavo_runtime.layers.pipeline import PassedOn, Received
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.models.decoder import Decoder, DecoderLayer, Stack
from octavo_runtime.models.layer_groups import cache_places
from octavo_runtime.models.loading.experts import build_experts
from octavo_runtime.models.loading.latent_attention import build_latent_attention
from octavo_runtime.models.loading.placing import placed_rows
from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor, dense, fuse_rows
from octavo_runtime.models.loading.tensor_shapes import (
    EMBEDDING,
    EMBEDDING_NORM,
    HEAD,
    HEAD_BIAS,
    POSITIONS,
    PROJECT_IN,
    PROJECT_OUT,
    Fused,
    attention_projections,
    head_norm_shapes,
    layer_projections,
    stream_norms,
)
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.quantization.grouped_matrix import quantize_rows


class _Norms(NamedTuple):
    """Those of a layer."""

    attention: Norm
    mlp: Norm
    attention_post: Norm | None
    mlp_post: Norm | None
    q: HeadNorm | None
    k: HeadNorm | None


class _Stored(NamedTuple):
    """A projection as its checkpoint has it."""

    weight: StoredTensor  # [out, in]
    bias: torch.Tensor | None  # [out]


def build_decoder(
    spec: ModelSpec,
    read: ReadTensor,
    device: torch.device,
    dtype: torch.dtype,
    group: Group | None = None,
    link: Link | None = None,
) -> Decoder:
    """Reads every tensor by its Hugging Face name, fuses and places it. group: the ranks that share its layers; link:
    the way to the stages before and behind, of a pipeline. `spec` and `read` are of this rank's share."""
    names, hidden, words = spec.tensors, spec.hidden_size, spec.word_size
    read_by = stream_norms(spec)

    narrow = spec.values_at_load

    def place(name: str, *shape: int) -> torch.Tensor:
        return dense(read(name, shape)).to(device=device, dtype=dtype)

    def rms_norm(weight: torch.Tensor) -> RMSNorm:
        return RMSNorm(weight, spec.rms_norm_eps, spec.residual_multiplier, spec.norm_offset)

    def norm(name: str) -> RMSNorm | LayerNorm:
        if spec.norm == "rms":
            return rms_norm(place(f"{name}.weight", hidden))
        bias = place(f"{name}.bias", hidden) if spec.norm_bias else None
        weight = place(f"{name}.weight", hidden) + spec.norm_offset
        return LayerNorm(weight, bias, spec.rms_norm_eps, becomes_stream=spec.is_post_norm)

    def stream_norm(at: int) -> Norm:
        name = read_by[at]
        return Unnormed(dtype) if name is None else norm(name)

    def behind(post_norm: str | None, reader: Norm) -> Norm:
        """The norm that reads the stream once a half of a layer is added, which has a norm of its own or none."""
        return reader if group is None or post_norm is not None else SummingNorm(reader, group)

    def post_norm(at: str, name: str | None) -> Norm | None:
        if name is None:
            return None
        return norm(at + name) if group is None else NormOfSum(norm(at + name), group)

    def project(name: str, rows: int, columns: int) -> Linear:
        return build_linear(place(name, rows, columns), None, device, dtype)

    def head_norm(name: str, shape: tuple[int, ...]) -> HeadNorm:
        weight = torch.cat([place(part, *own) for part, own in head_norm_shapes(name, shape).items()])
        if spec.interleaved_rope:
            weight = weight.view(-1, spec.head_dim)[:, _halves(spec)]
        weight = weight.view(shape)
        return HeadLayerNorm(weight, spec.rms_norm_eps) if spec.qk_layer_norm else rms_norm(weight)

    def norms(index: int) -> _Norms:
        at, attention = spec.prefix_of(index), behind(names.mlp_post_norm, stream_norm(2 * index))
        shared = spec.is_parallel and read_by[2 * index + 1] is None
        mlp = attention if shared else behind(names.attention_post_norm, stream_norm(2 * index + 1))
        q_shape, k_shape = spec.qk_norm_shapes
        return _Norms(
            attention,
            mlp,
            post_norm(at, names.attention_post_norm),
            post_norm(at, names.mlp_post_norm),
            head_norm(at + names.q_norm, q_shape) if spec.qk_norm else None,
            head_norm(at + names.k_norm, k_shape) if spec.qk_norm else None,
        )

    def projection(name: str, rows: int, columns: int) -> StoredTensor:
        if names.is_transposed:
            return dense(read(name, (columns, rows))).T.contiguous()
        return read(name, (rows, columns))

    def fuse(at: str, part: Fused) -> _Stored:
        rows = part.rows.items()
        parts = [projection(f"{at}{name}.weight", count, part.columns) for name, count in rows]
        if narrow is not None:
            parts = [quantize_rows(dense(part), narrow) for part in parts]
        weight = fuse_rows(parts, device, dtype)
        biases = [place(f"{at}{name}.bias", count) for name, count in rows] if part.has_bias else None
        return _Stored(weight, torch.cat(biases) if biases else None)

    in_cache = cache_places(spec)
    rotary = RotaryEmbedding(spec.rotated, spec.rope_theta, spec.rope_scaling, device)
    windowed_rotary = rotary
    if spec.windowed_rope_theta is not None:
        windowed_rotary = RotaryEmbedding(spec.rotated, spec.windowed_rope_theta, None, device)

    def rotary_of(index: int) -> RotaryEmbedding | None:
        if index in spec.unrotated_layers:
            return None
        return windowed_rotary if index in spec.windowed_layers else rotary

    def mlp(index: int, projections: Sequence[Linear]) -> MLP | Experts:
        if not projections:
            return build_experts(spec, spec.prefix_of(index), read, device, dtype, is_shared=group is not None)
        gate_up, down = projections
        return MLP(gate_up, down, spec.activation, spec.is_gated)

    def sinks(index: int) -> torch.Tensor | None:
        name = spec.prefix_of(index) + names.sinks
        return dense(read(name, (spec.num_heads,))).to(device=device, dtype=torch.float32) if spec.has_sinks else None

    slopes = None
    if spec.alibi_slopes is not None:
        first = 0 if group is None else group.rank * spec.num_heads
        slopes = torch.tensor(spec.alibi_slopes[first : first + spec.num_heads], device=device)

    def attention(index: int, projections: Sequence[Linear], norms: _Norms) -> Attention | LatentAttention:
        if not projections:
            return build_latent_attention(spec, spec.prefix_of(index), read, rotary, in_cache[index], device, dtype)
        qkv, output = projections
        return Attention(
            qkv=qkv,
            output=output,
            rotary=rotary_of(index),
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            scale=spec.attention_scale or 1 / math.sqrt(spec.head_dim),
            place=in_cache[index],
            q_norm=norms.q,
            k_norm=norms.k,
            window=spec.window_of(index),
            softcap=spec.attention_softcap,
            sinks=sinks(index),
            slopes=slopes,
            norms_follow_rotary=spec.qk_norm_follows_rope,
        )

    def layer(index: int, projections: Sequence[Linear], norms: _Norms) -> DecoderLayer:
        attending = len(attention_projections(spec))
        return DecoderLayer(
            norms.attention,
            attention(index, projections[:attending], norms),
            norms.mlp,
            mlp(index, projections[attending:]),
            norms.attention_post,
            norms.mlp_post,
            spec.is_parallel,
        )

    layers, packed_layers = [], []
    replays = group is None and link is None and packs(device, dtype) and spec.consists_of_loops
    for index in range(spec.num_layers):
        of_layer = norms(index)
        stored = [fuse(spec.prefix_of(index), part) for part in layer_projections(spec, index)]
        if spec.qkv_by_groups:
            stored[0] = _reordered(stored[0], by_parts(spec))
        if spec.interleaved_rope and spec.latent is None:
            stored[0] = _in_halves(stored[0], spec)
        linears = [build_linear(*each, device, dtype) for each in stored]
        layers.append(layer(index, linears, of_layer))
        found = [_packed(*each) for each in zip(linears, stored, strict=True)] if replays else []
        packed = [linear for linear in found if linear is not None]
        if len(packed) == len(stored) > 0:
            packed_layers.append(layer(index, packed, _Norms(*map(_widened, of_layer))))
    shape = spec.vocab_size, words
    embedding: Embedding | Received
    if spec.begins:
        embedded = read(EMBEDDING, shape)
        multiplier = spec.embedding_multiplier
        if spec.rounds_embedding_multiplier:
            multiplier = torch.tensor(multiplier, dtype=dtype).item()
        placed = placed_rows([dense(embedded)], device, dtype).to(device=device, dtype=dtype)
        learned = place(POSITIONS, spec.learned_positions, hidden) if spec.learned_positions else None
        embedding_norm = norm(EMBEDDING_NORM) if spec.normalises_embedding else None
        into = project(PROJECT_IN, hidden, words) if spec.projected_words else None
        embedding = Embedding(placed, multiplier, learned, spec.position_offset or 0, embedding_norm, into)
    else:
        assert link is not None
        embedding = Received(torch.empty(0, hidden, device=device, dtype=dtype), link)
    if not spec.ends:
        assert link is not None
        end = behind(names.mlp_post_norm, PassedOn(link, spec.residual_multiplier))
        return Decoder(spec, embedding, Stack(layers, end), None)
    head_bias = place(HEAD_BIAS, spec.vocab_size) if spec.head_bias else None
    head: Head
    is_embedding, name = spec.tie_embeddings and spec.begins, EMBEDDING if spec.tie_embeddings else HEAD
    if group is not None and spec.head_size is not None:
        all_words = embedding.weight if is_embedding else dense(read(name, shape))
        first = group.rank * spec.head_size
        weight = _words(all_words, first, spec.head_size)
        bias = None if head_bias is None else _words(head_bias, first, spec.head_size)
        own = build_lm_head(placed_rows([weight], device, dtype), None, device, dtype, bias)
        head = GatheredHead(own, spec.vocab_size, group)
    elif is_embedding:
        head = build_lm_head(embedded, embedding.weight, device, dtype, head_bias)
    else:
        head = build_lm_head(fuse_rows([read(name, shape)], device, dtype), None, device, dtype, head_bias)
    last = stream_norm(-1)
    if spec.projected_words:
        last = ProjectedNorm(last, project(PROJECT_OUT, words, hidden))
    return Decoder(
        spec=spec,
        embedding=embedding,
        stack=Stack(layers, behind(names.mlp_post_norm, last)),
        head=head,
        few_rows=Stack(packed_layers, _widened(last)) if len(packed_layers) == spec.num_layers else None,
    )


def _words(rows: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """So many of all words' rows, with zeros behind the last word."""
    mine = rows[first : first + count]
    lacking = mine.new_zeros(count - len(mine), *mine.shape[1:])
    return torch.cat((mine, lacking)) if len(lacking) else mine


def _in_halves(qkv: _Stored, spec: ModelSpec) -> _Stored:
    """Queries and keys whose rotary embedding turns neighbours, their rows in the order in which it turns halves: the
    products of queries and keys stay the same."""
    heads = torch.arange(qkv.weight.shape[0]).view(-1, spec.head_dim)
    turned = heads[: spec.num_heads + spec.num_kv_heads]
    turned.copy_(turned[:, _halves(spec)])
    return _reordered(qkv, heads.flatten())


def _halves(spec: ModelSpec) -> torch.Tensor:
    """The entries of a head [head_dim], neighbours that are turned together half of what is turned apart."""
    entries = torch.arange(spec.head_dim)
    turned, rest = entries[: spec.rotated], entries[spec.rotated :]
    return torch.cat((turned[::2], turned[1::2], rest))


def by_parts(spec: ModelSpec) -> torch.Tensor:
    """The rows of all queries, of all keys and of all values, where they are stored by groups."""
    kv_heads, queries = spec.num_kv_heads, spec.num_heads // spec.num_kv_heads
    heads = torch.arange(kv_heads * (queries + 2) * spec.head_dim).view(kv_heads, queries + 2, spec.head_dim)
    return torch.cat([part.flatten() for part in heads.split([queries, 1, 1], dim=1)])


def _packed(linear: Linear, stored: _Stored) -> PackedLinear | None:
    """The projection for few rows; None where it is not stored in groups."""
    if isinstance(linear, PackedLinear):
        return linear
    groups = in_groups(stored.weight)
    return None if groups is None else pack_linear(groups, stored.bias)


def _reordered(stored: _Stored, order: torch.Tensor) -> _Stored:
    weight = stored.weight[order] if isinstance(stored.weight, torch.Tensor) else stored.weight.rows(order)
    return _Stored(weight, None if stored.bias is None else stored.bias[order])


def _widened(norm: Any) -> Any:
    """An RMSNorm with its weight in float32; None of None."""
    return None if norm is None else replace(norm, weight=norm.weight.float())
