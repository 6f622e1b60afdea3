"""DistilBERT: transformers' DistilBertConfig. BERT in other names, without types of tokens."""

from dataclasses import replace

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.encoder_spec import Classifier, EncoderSpec
from octavo_runtime.models.families.bert import BERT_DEFAULTS, encoder
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import TensorNames

_NAMES = TensorNames(
    attention_norm="sa_layer_norm",
    mlp_norm="output_layer_norm",
    qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    output="attention.out_lin",
    gate_up=("ffn.lin1",),
    down="ffn.lin2",
)


def spec(fields: ConfigFields, _eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    found = encoder(fields, "distilbert.", 0, Classifier("pre_classifier", "classifier", "relu"))
    assert found.encoder is not None
    form: EncoderSpec = replace(found.encoder, layers="transformer.layer.", type_rows=0)
    return replace(found, tensors=_NAMES, encoder=form, unread=(*found.unread, "vocab_"))


FAMILY = Family(
    "DistilBertModel",
    "distilbert",
    {**BERT_DEFAULTS, "num_hidden_layers": 6},
    spec,
    renamed={
        "dim": "hidden_size",
        "hidden_dim": "intermediate_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "activation": "hidden_act",
    },
    models="DistilBERT, multi-qa-distilbert, msmarco-distilbert",
    kind="encoder",
    beside="no types of tokens",
)
