"""From named tensors to an encoder: queries, keys and values are stored fused."""

import torch

from octavo_runtime.layers.linear import Linear, build_linear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import LayerNorm
from octavo_runtime.models.encoder import Encoder, EncoderEmbedding, EncoderLayer
from octavo_runtime.models.loading.stored_tensors import ReadTensor, dense, fuse_rows
from octavo_runtime.models.spec import ModelSpec, Transfer
from octavo_runtime.models.text_head import TextHead, TextLayer
from octavo_runtime.protocol.text_task import TextTask

_WORDS, _POSITIONS, _TYPES = (f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type"))
_NORM = "embeddings.LayerNorm"


def build_encoder(
    spec: ModelSpec, read: ReadTensor, behind: TextHead, task: TextTask, device: torch.device, dtype: torch.dtype
) -> Encoder:
    """Reads every tensor by its Hugging Face name, fuses and places it. behind: what the checkpoint has behind the
    encoder apart from it."""
    shapes = encoder_shapes(spec)
    form = spec.encoder
    assert form is not None

    def place(name: str, as_type: torch.dtype = dtype) -> torch.Tensor:
        return dense(read(name, shapes[name])).to(device=device, dtype=as_type)

    def norm(name: str) -> LayerNorm:
        return LayerNorm(place(f"{name}.weight"), place(f"{name}.bias"), spec.rms_norm_eps)

    def project(at: str, names: tuple[str, ...]) -> Linear:
        weights = [read(f"{at}{name}.weight", shapes[f"{at}{name}.weight"]) for name in names]
        biases = [place(f"{at}{name}.bias") for name in names]
        return build_linear(fuse_rows(weights, device, dtype), torch.cat(biases), device, dtype)

    def layer(at: str) -> EncoderLayer:
        names = spec.tensors
        assert names.attention_norm is not None
        assert names.mlp_norm is not None
        return EncoderLayer(
            project(at, names.qkv),
            project(at, (names.output,)),
            norm(at + names.attention_norm),
            MLP(project(at, names.gate_up), project(at, (names.down,)), spec.activation, is_gated=False),
            norm(at + names.mlp_norm),
            spec.num_heads,
            spec.head_dim,
        )

    def scores(name: str, transfer: Transfer) -> TextLayer:
        weight, bias = (place(f"{name}.{kind}", torch.float32) for kind in ("weight", "bias"))
        return TextLayer(weight, bias, transfer)

    words, positions, types = map(place, (_WORDS, _POSITIONS, _TYPES))
    embedded = EncoderEmbedding(words, positions, types, norm(_NORM), form.first_position)
    layers = [layer(_prefix(index)) for index in range(spec.num_layers)]
    if form.classifier is not None:
        behind = TextHead([scores(form.classifier.dense, "tanh"), scores(form.classifier.output, "identity")])
    return Encoder(spec, embedded, layers, behind, task)


def encoder_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that build_encoder reads."""
    hidden, inner, names, form = spec.hidden_size, spec.intermediate_size, spec.tensors, spec.encoder
    assert form is not None
    shapes: dict[str, tuple[int, ...]] = {
        _WORDS: (spec.vocab_size, hidden),
        _POSITIONS: (form.position_rows, hidden),
        _TYPES: (form.type_rows, hidden),
    }
    norms = [_NORM]
    projections: dict[str, tuple[int, int]] = {}
    for at in map(_prefix, range(spec.num_layers)):
        norms += [at + name for name in names.stream_norms]
        projections |= {at + name: (hidden, hidden) for name in (*names.qkv, names.output)}
        projections |= {at + names.gate_up[0]: (inner, hidden), at + names.down: (hidden, inner)}
    if form.classifier is not None:
        projections |= {form.classifier.dense: (hidden, hidden), form.classifier.output: (spec.labels, hidden)}
    for name, (out, columns) in projections.items():
        shapes |= {f"{name}.weight": (out, columns), f"{name}.bias": (out,)}
    return shapes | {f"{name}.{kind}": (hidden,) for name in norms for kind in ("weight", "bias")}


def _prefix(index: int) -> str:
    return f"encoder.layer.{index}."
