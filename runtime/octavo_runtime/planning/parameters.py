"""How many parameters a model has, and the bytes of its weights. Free of torch."""

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.quantized_weights import gpu_saving

_ELEMENT_BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}


def parameter_count(spec: ModelSpec) -> int:
    """Parameters of the model, a tied embedding counted once, and of experts all."""
    return _parameters(spec, len(spec.experts.here) if spec.experts else 0)


def active_parameter_count(spec: ModelSpec) -> int:
    """Those that one token meets: of experts the chosen ones."""
    return _parameters(spec, spec.experts.routing.top_k if spec.experts else 0)


def _parameters(spec: ModelSpec, experts: int) -> int:
    """Parameters with so many experts in a layer that has them."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    norm = hidden * (1 + spec.norm_bias)
    layer = len(spec.tensors.stream_norms) * norm + projected_parameters(spec)
    layer += spec.qkv_size * spec.qkv_bias + hidden * spec.output_bias + spec.qk_norm_size
    layer += _latent_vectors(spec)
    mlp = hidden * (spec.gate_up_size + inner) + (spec.gate_up_size + hidden) * spec.mlp_bias
    found = spec.num_layers * layer + _end_parameters(spec) + (spec.num_layers - len(spec.expert_layers)) * mlp
    if spec.experts is not None:
        has = spec.experts
        shared = has.shared_size * 3 * hidden + has.gates_shared * hidden
        found += len(has.layers) * (experts * expert_size(spec) + shared)
    return found + _wide_parameters(spec) + _text_parameters(spec)


def _end_parameters(spec: ModelSpec) -> int:
    """Those before the first layer and behind the last, where they are of this stage."""
    hidden, words, found = spec.hidden_size, spec.word_size, 0
    norm, projection = hidden * (1 + spec.norm_bias), hidden * (spec.projected_words or 0)
    if spec.begins:
        found += words * spec.vocab_size + hidden * spec.learned_positions + projection
        found += norm * spec.normalises_embedding
        found -= norm * _begins_unnormed(spec)
    if spec.ends:
        scored = spec.head_size or spec.vocab_size
        found += norm + projection + scored * spec.head_bias
        found += 0 if spec.tie_embeddings and spec.begins else scored * words
    return found


def _begins_unnormed(spec: ModelSpec) -> bool:
    """Whether the first layer reads the stream as it is."""
    return spec.is_post_norm or (spec.encoder is not None and not spec.encoder.first_is_normed)


def _text_parameters(spec: ModelSpec) -> int:
    """Those of an encoder's positions and types, and of a head for scores."""
    hidden, form = spec.hidden_size, spec.encoder
    if form is None:
        return spec.labels * spec.word_size
    found = (form.position_rows + form.type_rows) * hidden
    if form.classifier is not None:
        found += hidden * (hidden + form.classifier.dense_bias) + spec.labels * (hidden + 1)
        found += hidden * (1 + spec.norm_bias) * (form.classifier.norm is not None)
    return found


def projected_parameters(spec: ModelSpec) -> int:
    """Of the matrices that a layer's attention multiplies by."""
    hidden, has = spec.hidden_size, spec.latent
    output = hidden * spec.num_heads * spec.attended_dim
    if has is None:
        return hidden * spec.qkv_size + output
    expanded = spec.num_heads * (spec.head_dim - spec.rotated + has.value_dim)
    latents = hidden * (has.rank + spec.rotated) + has.rank * expanded
    if has.query_rank is None:
        return hidden * spec.qkv_size + latents + output
    return has.query_rank * (hidden + spec.qkv_size) + latents + output


def _latent_vectors(spec: ModelSpec) -> int:
    """Of the norms and the biases of a layer's latents."""
    has = spec.latent
    if has is None:
        return 0
    query_rank = has.query_rank or 0
    return has.rank + query_rank + has.has_biases * (has.rank + spec.rotated + query_rank + spec.hidden_size)


def expert_size(spec: ModelSpec) -> int:
    """Parameters of one expert."""
    if spec.experts is None:
        return 0
    hidden, inner = spec.hidden_size, spec.experts.intermediate_size
    return 3 * hidden * inner + (2 * inner + hidden) * spec.experts.has_biases


def _wide_parameters(spec: ModelSpec) -> int:
    """Those that are kept in float32: of all layers' routers, and sinks."""
    sinks = spec.num_layers * spec.num_heads * spec.has_sinks
    if spec.experts is None:
        return sinks
    has, routing = spec.experts, spec.experts.routing
    router = routing.num_experts * (spec.hidden_size + routing.has_correction + has.has_biases)
    return sinks + len(has.layers) * router


def _packed_parameters(spec: ModelSpec) -> int:
    """Those that are kept in 4 bits, with 8 more for 32 of them."""
    if spec.experts is None or not spec.experts.is_packed:
        return 0
    has = spec.experts
    return len(has.layers) * len(has.here) * 3 * spec.hidden_size * has.intermediate_size


def element_size(config: EngineConfig) -> int:
    """Bytes of one weight or activation."""
    return _ELEMENT_BYTES[config.dtype]


def weight_bytes(spec: ModelSpec, element_bytes: int, device: str = "cuda") -> int:
    """Bytes of the weights in memory, all of them in one type but for routers and sinks, which are of float32, and
    what a GPU keeps packed. On a CPU the output head in 16 bits is a tensor of its own even where it is tied to the
    embedding; packed weights come on top (see planning.packed_weights and quantized_weights)."""
    is_embedding = spec.tie_embeddings and spec.begins and spec.ends and spec.encoder is None
    copied_head = device == "cpu" and element_bytes == 2 and is_embedding
    elements = parameter_count(spec) + copied_head * (spec.head_size or spec.vocab_size) * spec.word_size
    packed = _packed_parameters(spec)
    saved = gpu_saving(spec, element_bytes) if device == "cuda" else 0
    return (
        (elements - packed) * element_bytes + packed * 17 // 32 + _wide_parameters(spec) * (4 - element_bytes) - saved
    )
