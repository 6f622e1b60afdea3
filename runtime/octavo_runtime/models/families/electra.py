"""ELECTRA: transformers' ElectraConfig, with embeddings as wide as its layers. As BERT."""

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.encoder_spec import Classifier
from octavo_runtime.models.families.bert import BERT_DEFAULTS, encoder
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def spec(fields: ConfigFields, _eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    width = fields.hidden_size
    if fields.embedding_size != width:
        raise UnsupportedModel(f"embedding_size must be hidden_size ({width}), got {fields.embedding_size}")
    return encoder(fields, "electra.", 0, Classifier("classifier.dense", "classifier.out_proj", "gelu"))


FAMILY = Family(
    "ElectraModel",
    "electra",
    {
        **BERT_DEFAULTS,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_attention_heads": 4,
        "embedding_size": 128,
    },
    spec,
    models="ELECTRA of base size and above, ms-marco-electra-base",
    kind="encoder",
    beside="another head for scores",
)
