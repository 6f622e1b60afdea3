"""Which tensors a decoder is made of, by their Hugging Face names and shapes, and which projections run as one."""

from typing import NamedTuple

from octavo_runtime.models.loading.experts import expert_shapes
from octavo_runtime.models.loading.latent_attention import latent_shapes
from octavo_runtime.models.loading.stored_tensors import rows_of
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix

POSITIONS = "model.embed_positions.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
NORM, EMBEDDING_NORM, HEAD_BIAS = "model.norm", "model.embed_norm", "lm_head.bias"
PROJECT_IN, PROJECT_OUT = "model.project_in.weight", "model.project_out.weight"


class Fused(NamedTuple):
    """Projections of one input that run as one, their outputs side by side."""

    columns: int
    rows: dict[str, int]  # by the projection's name
    has_bias: bool


def tensor_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that build_decoder reads."""
    hidden, words, names = spec.hidden_size, spec.word_size, spec.tensors
    shapes: dict[str, tuple[int, ...]] = {}
    norms = [name for name in stream_norms(spec) if name is not None]
    if spec.begins:
        shapes[EMBEDDING] = spec.vocab_size, words
        if spec.projected_words:
            shapes[PROJECT_IN] = hidden, words
        if spec.learned_positions:
            shapes[POSITIONS] = spec.learned_positions, hidden
        if spec.normalises_embedding:
            norms.append(EMBEDDING_NORM)
    if spec.ends:
        shapes[EMBEDDING if spec.tie_embeddings else HEAD] = spec.vocab_size, words
        if spec.projected_words:
            shapes[PROJECT_OUT] = words, hidden
        if spec.head_bias:
            shapes[HEAD_BIAS] = (spec.vocab_size,)
    for index in range(spec.num_layers):
        at = spec.prefix_of(index)
        norms += [at + name for name in (names.attention_post_norm, names.mlp_post_norm) if name is not None]
        if spec.qk_norm:
            for name, shape in zip((names.q_norm, names.k_norm), spec.qk_norm_shapes, strict=True):
                shapes |= head_norm_shapes(at + name, shape)
        if spec.has_sinks:
            shapes[at + names.sinks] = (spec.num_heads,)
        for part in layer_projections(spec, index):
            for name, count in part.rows.items():
                shape = count, part.columns
                shapes[f"{at}{name}.weight"] = shape[::-1] if names.is_transposed else shape
                if part.has_bias:
                    shapes[f"{at}{name}.bias"] = (count,)
        if spec.latent is not None:
            shapes |= latent_shapes(spec, at)
        if index in spec.expert_layers:
            shapes |= expert_shapes(spec, at)
    for name in norms:
        shapes |= {f"{name}.{kind}": (hidden,) for kind in ("weight", "bias")[: 1 + spec.norm_bias]}
    return shapes


def stream_norms(spec: ModelSpec) -> list[str | None]:
    """The norms that read the residual stream, by name: in front of each layer's attention and of its MLP, and behind
    the last layer, where no other stage has that. None: the stream is read as it is. Of norms that stand behind what
    they read, a stage begins with the last of the stage before."""
    names, first, end = spec.tensors, spec.layers_before, spec.layers_before + spec.num_layers
    of_layers = [
        None if name is None else layer_prefix(index) + name
        for index in range(end)
        for name in (names.attention_norm, names.mlp_norm)
    ]
    every = [None, *of_layers] if spec.is_post_norm else [*of_layers, NORM]
    return every[2 * first : 2 * end + spec.ends]


def layer_projections(spec: ModelSpec, index: int) -> tuple[Fused, ...]:
    """What a layer multiplies by, in its order, but for experts and latent attention."""
    names, hidden, inner = spec.tensors, spec.hidden_size, spec.intermediate_size
    attention = attention_projections(spec)
    if index in spec.expert_layers:
        return attention
    return (
        *attention,
        Fused(hidden, rows_of(names.gate_up, *[inner] * (spec.gate_up_size // inner)), spec.mlp_bias),
        Fused(inner, {names.down: hidden}, spec.mlp_bias),
    )


def attention_projections(spec: ModelSpec) -> tuple[Fused, ...]:
    """None of latent attention."""
    if spec.latent is not None:
        return ()
    names, hidden = spec.tensors, spec.hidden_size
    q_rows, kv_rows = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    return (
        Fused(hidden, rows_of(names.qkv, q_rows, kv_rows, kv_rows), spec.qkv_bias),
        Fused(q_rows, {names.output: hidden}, spec.output_bias),
    )


def head_norm_shapes(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a norm of queries or keys is stored in: one, or one for each head."""
    if "{}" not in name:
        return {f"{name}.weight": shape}
    return {f"{name.format(head)}.weight": shape[1:] for head in range(shape[0])}
