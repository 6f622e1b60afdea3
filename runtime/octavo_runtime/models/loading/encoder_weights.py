"""From named tensors to an encoder: queries, keys and values are stored fused."""

from typing import NamedTuple

import torch

from octavo_runtime.layers.linear import Linear, build_linear
from octavo_runtime.layers.mlp import MLP
from octavo_runtime.layers.norm import LayerNorm, Norm, Unnormed
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.models.encoder import Encoder, EncoderAttention, EncoderEmbedding, EncoderLayer
from octavo_runtime.models.encoder_spec import Classifier, EncoderSpec
from octavo_runtime.models.loading.stored_tensors import ReadTensor, dense, fuse_rows
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.text_head import TextHead, TextLayer, TextNorm
from octavo_runtime.protocol.text_task import TextTask

_POSITIONS, _TYPES = (f"embeddings.{name}_embeddings.weight" for name in ("position", "token_type"))


class _Projection(NamedTuple):
    """What runs as one: the rows of each of the tensors that store it, by name."""

    rows: dict[str, int]
    columns: int
    has_bias: bool

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        weights: dict[str, tuple[int, ...]] = {f"{name}.weight": (n, self.columns) for name, n in self.rows.items()}
        return weights | {f"{name}.bias": (n,) for name, n in self.rows.items() if self.has_bias}


def build_encoder(
    spec: ModelSpec, read: ReadTensor, behind: TextHead, task: TextTask, device: torch.device, dtype: torch.dtype
) -> Encoder:
    """Reads every tensor by its Hugging Face name, fuses and places it. behind: what the checkpoint has behind the
    encoder apart from it."""
    shapes, form = encoder_shapes(spec), _form(spec)

    def place(name: str, as_type: torch.dtype = dtype) -> torch.Tensor:
        return dense(read(name, shapes[name])).to(device=device, dtype=as_type)

    def placed(name: str, as_type: torch.dtype = dtype) -> torch.Tensor | None:
        return place(name, as_type) if name in shapes else None

    def norm(name: str, *, becomes_stream: bool = False) -> LayerNorm:
        return LayerNorm(place(f"{name}.weight"), placed(f"{name}.bias"), spec.rms_norm_eps, becomes_stream)

    def stream_norm(name: str | None) -> Norm:
        return Unnormed(dtype) if name is None else norm(name, becomes_stream=spec.is_post_norm)

    def project(part: _Projection) -> Linear:
        weights = [read(f"{name}.weight", (rows, part.columns)) for name, rows in part.rows.items()]
        biases = [place(f"{name}.bias") for name in part.rows] if part.has_bias else None
        return build_linear(
            fuse_rows(weights, device, dtype), None if biases is None else torch.cat(biases), device, dtype
        )

    def scores(classifier: Classifier) -> TextHead:
        wide, norm = torch.float32, None
        if classifier.norm is not None:
            weight, bias = place(f"{classifier.norm}.weight", wide), placed(f"{classifier.norm}.bias", wide)
            norm = TextNorm(weight, bias, spec.rms_norm_eps)
        first, last = (
            (place(f"{name}.weight", wide), placed(f"{name}.bias", wide))
            for name in (classifier.dense, classifier.output)
        )
        return TextHead([TextLayer(*first, classifier.transfer, norm), TextLayer(*last)])

    rotary = RotaryEmbedding(spec.rotated, spec.rope_theta, spec.rope_scaling, device)
    windowed_rotary = RotaryEmbedding(spec.rotated, spec.windowed_rope_theta or spec.rope_theta, None, device)

    def rotary_of(index: int) -> RotaryEmbedding | None:
        if index in spec.unrotated_layers:
            return None
        return windowed_rotary if index in spec.windowed_layers else rotary

    norms = [stream_norm(name) for name in _stream_norms(spec)]

    def layer(index: int) -> EncoderLayer:
        qkv, output, gate_up, down = map(project, _projections(spec, index))
        window = spec.window_of(index)
        attention = EncoderAttention(qkv, output, rotary_of(index), spec.num_heads, spec.head_dim, window)
        mlp = MLP(gate_up, down, spec.activation, spec.is_gated)
        return EncoderLayer(norms[2 * index], attention, norms[2 * index + 1], mlp)

    embedded = EncoderEmbedding(
        place(f"{form.words}.weight"),
        placed(_POSITIONS),
        placed(_TYPES),
        norm(form.embedding_norm),
        form.first_position,
    )
    head = behind if form.classifier is None else scores(form.classifier)
    return Encoder(spec, embedded, [layer(index) for index in range(spec.num_layers)], norms[-1], head, task)


def encoder_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that build_encoder reads."""
    hidden, form = spec.hidden_size, _form(spec)
    shapes: dict[str, tuple[int, ...]] = {f"{form.words}.weight": (spec.vocab_size, hidden)}
    for name, rows in ((_POSITIONS, form.position_rows), (_TYPES, form.type_rows)):
        shapes |= {name: (rows, hidden)} if rows else {}
    norms = [form.embedding_norm, *filter(None, _stream_norms(spec))]
    projections = [part for index in range(spec.num_layers) for part in _projections(spec, index)]
    if form.classifier is not None:
        dense, output = form.classifier.dense, form.classifier.output
        projections.append(_Projection({dense: hidden}, hidden, form.classifier.dense_bias))
        projections.append(_Projection({output: spec.labels}, hidden, has_bias=True))
        norms += [form.classifier.norm] if form.classifier.norm is not None else []
    for part in projections:
        shapes |= part.shapes
    kinds = ("weight", "bias") if spec.norm_bias else ("weight",)
    return shapes | {f"{name}.{kind}": (hidden,) for name in norms for kind in kinds}


def _projections(spec: ModelSpec, index: int) -> list[_Projection]:
    """A layer's, in the order in which they compute."""
    at, names, hidden = f"{_form(spec).layers}{index}.", spec.tensors, spec.hidden_size

    def part(parts: tuple[str, ...], rows: int, columns: int, has_bias: bool) -> _Projection:
        return _Projection({at + name: rows // len(parts) for name in parts}, columns, has_bias)

    return [
        part(names.qkv, spec.qkv_size, hidden, spec.qkv_bias),
        part((names.output,), hidden, hidden, spec.output_bias),
        part(names.gate_up, spec.gate_up_size, hidden, spec.mlp_bias),
        part((names.down,), hidden, spec.intermediate_size, spec.mlp_bias),
    ]


def _stream_norms(spec: ModelSpec) -> list[str | None]:
    """The norms that the residual stream is read through: in front of each layer's halves, and behind the last. Where
    they stand behind the halves, each is in front of the next one."""
    form = _form(spec)
    own = [f"{form.layers}{index}.{name}" for index in range(spec.num_layers) for name in spec.tensors.stream_norms]
    if spec.is_post_norm:
        return [None, *own]
    return [own[0] if form.first_is_normed else None, *own[1:], form.final_norm]


def _form(spec: ModelSpec) -> EncoderSpec:
    assert spec.encoder is not None
    return spec.encoder
