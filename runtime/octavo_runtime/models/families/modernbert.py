"""ModernBERT (Warner et al. 2024): transformers' ModernBertConfig. An encoder with rotary positions, windows to both
sides in two of three layers, gated feed-forward blocks, and its norms in front."""

from octavo_runtime.layers.activation import Transfer
from octavo_runtime.models.config_fields import ConfigFields, shown, windowed
from octavo_runtime.models.config_rope import plain_rope_of_kind, rope, with_rope_of_kind
from octavo_runtime.models.encoder_spec import Classifier, EncoderSpec
from octavo_runtime.models.families.bert import ACTIVATIONS
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import TensorNames
from octavo_runtime.protocol.pooling import Pooling

_NAMES = TensorNames(
    attention_norm="attn_norm",
    mlp_norm="mlp_norm",
    qkv=("attn.Wqkv",),
    output="attn.Wo",
    gate_up=("mlp.Wi",),
    down="mlp.Wo",
)
_POOLINGS: dict[str, Pooling] = {"cls": "cls", "mean": "mean"}
_TRANSFERS: dict[str, Transfer] = {"gelu": "gelu", "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}


def spec(fields: ConfigFields, _eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    hidden, heads, side = fields.hidden_size, fields.num_attention_heads, fields.local_attention // 2
    activation = fields.hidden_activation or "gelu"
    if activation not in ACTIVATIONS:
        raise UnsupportedModel(f"hidden_activation must be one of {', '.join(ACTIVATIONS)}, got {shown(activation)}")
    if hidden % heads:
        raise UnsupportedModel(f"num_attention_heads must divide hidden_size ({hidden}), got {heads}")
    if fields.sliding_window not in (None, side):
        raise UnsupportedModel(f"sliding_window must be half of local_attention ({side}), got {fields.sliding_window}")
    if fields.rope_scaling is not None:
        raise UnsupportedModel(f"rope_scaling must be unset, got {shown(fields.rope_scaling)}")
    everywhere = fields.model_copy(update={"rope_theta": fields.global_rope_theta})
    theta, scaling = rope(with_rope_of_kind(everywhere, "full_attention"))
    with_window = fields.model_copy(update={"sliding_window": side + 1})  # a token itself and those to one side
    return ModelSpec(
        vocab_size=fields.vocab_size,
        hidden_size=hidden,
        intermediate_size=fields.intermediate_size,
        num_layers=fields.num_hidden_layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        max_position=fields.max_position_embeddings,
        rms_norm_eps=fields.norm_eps,
        rope_theta=theta,
        rope_scaling=scaling,
        tie_embeddings=True,
        qkv_bias=fields.attention_bias,
        output_bias=fields.attention_bias,
        mlp_bias=fields.mlp_bias,
        eos_token_ids=(),
        window=side + 1,
        windowed_layers=windowed(with_window, lambda layer: layer % fields.global_attn_every_n_layers != 0),
        windowed_rope_theta=plain_rope_of_kind(fields, "sliding_attention", fields.local_rope_theta),
        norm="layer",
        norm_bias=fields.norm_bias,
        normalises_embedding=True,
        activation=ACTIVATIONS[activation],
        tensors=_NAMES,
        encoder=EncoderSpec(
            "model.",
            layers="layers.",
            words="embeddings.tok_embeddings",
            embedding_norm="embeddings.norm",
            first_is_normed=False,
            final_norm="final_norm",
            classifier=None if fields.num_labels is None else _classifier(fields),
        ),
        unread=("decoder.",) if fields.num_labels is not None else ("decoder.", "head."),
    )


def _classifier(fields: ConfigFields) -> Classifier:
    pooling, transfer = fields.classifier_pooling, fields.classifier_activation
    if pooling not in _POOLINGS:
        raise UnsupportedModel(f"classifier_pooling must be one of {', '.join(_POOLINGS)}, got {shown(pooling)}")
    if transfer not in _TRANSFERS:
        raise UnsupportedModel(f"classifier_activation must be one of {', '.join(_TRANSFERS)}, got {shown(transfer)}")
    return Classifier(
        "head.dense", "classifier", _TRANSFERS[transfer], _POOLINGS[pooling], fields.classifier_bias, "head.norm"
    )


FAMILY = Family(
    "ModernBertModel",
    "modernbert",
    {
        "vocab_size": 50_368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
    },
    spec,
    models="ModernBERT, modernbert-embed, gte-modernbert, gte-reranker-modernbert",
    kind="encoder",
    beside="rotary positions, windows to both sides in two of three layers, gated MLP, norms in front",
)
