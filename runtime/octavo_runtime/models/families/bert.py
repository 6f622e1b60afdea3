"""BERT: transformers' BertConfig; MiniLM, e5, bge and gte are of its shape."""

from octavo_runtime.layers.activation import Activation
from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.encoder_spec import Classifier, EncoderSpec
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.tensor_names import TensorNames

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_NAMES = TensorNames(
    attention_norm="attention.output.LayerNorm",
    mlp_norm="output.LayerNorm",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    output="attention.output.dense",
    gate_up=("intermediate.dense",),
    down="output.dense",
)
# What a checkpoint of other ends holds beside the encoder.
_OTHER_HEADS = ("embeddings.position_ids", "cls.", "lm_head.")


def spec(fields: ConfigFields, _eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    return encoder(fields, "bert.", 0, Classifier("pooler.dense", "classifier"))


def encoder(fields: ConfigFields, prefix: str, first_position: int, classifier: Classifier) -> ModelSpec:
    """The encoder of a configuration; see EncoderSpec. classifier: of one that scores texts."""
    if fields.position_embedding_type not in (None, "absolute"):
        raise UnsupportedModel(f"position_embedding_type must be absolute, got {fields.position_embedding_type}")
    if fields.is_decoder:
        raise UnsupportedModel("is_decoder must be false, got true")
    if fields.hidden_act not in ACTIVATIONS:
        raise UnsupportedModel(f"hidden_act must be one of {', '.join(ACTIVATIONS)}, got {fields.hidden_act}")
    if fields.hidden_size % fields.num_attention_heads:
        raise UnsupportedModel(
            f"num_attention_heads must divide hidden_size ({fields.hidden_size}), got {fields.num_attention_heads}"
        )
    rows = fields.max_position_embeddings
    if rows <= first_position:
        raise UnsupportedModel(f"max_position_embeddings must be above {first_position}, got {rows}")
    scores = fields.num_labels is not None
    return ModelSpec(
        vocab_size=fields.vocab_size,
        hidden_size=fields.hidden_size,
        intermediate_size=fields.intermediate_size,
        num_layers=fields.num_hidden_layers,
        num_heads=fields.num_attention_heads,
        num_kv_heads=fields.num_attention_heads,
        head_dim=fields.hidden_size // fields.num_attention_heads,
        max_position=rows - first_position,
        rms_norm_eps=fields.layer_norm_eps,
        rope_theta=1.0,
        rope_scaling=None,
        tie_embeddings=True,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        eos_token_ids=(),
        norm="layer",
        norm_bias=True,
        is_post_norm=True,
        normalises_embedding=True,
        unrotated_layers=frozenset(range(fields.num_hidden_layers)),
        activation=ACTIVATIONS[fields.hidden_act],
        is_gated=False,
        tensors=_NAMES,
        encoder=EncoderSpec(
            prefix,
            position_rows=rows,
            first_position=first_position,
            type_rows=fields.type_vocab_size,
            classifier=classifier if scores else None,
        ),
        unread=(*_OTHER_HEADS, *(() if scores and classifier.dense.startswith("pooler") else ("pooler.",))),
    )


BERT_DEFAULTS = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
FAMILY = Family(
    "BertModel",
    "bert",
    BERT_DEFAULTS,
    spec,
    models="MiniLM, e5, bge, gte, ms-marco cross-encoders",
    kind="encoder",
)
