"""RoBERTa: transformers' RobertaConfig. BERT whose positions are counted from behind the padding token's number."""

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.encoder_spec import Classifier
from octavo_runtime.models.families.bert import BERT_DEFAULTS, encoder
from octavo_runtime.models.family import Family
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel


def spec(fields: ConfigFields, _eos_token_ids: tuple[int, ...]) -> ModelSpec:
    """Raises UnsupportedModel, which names field, bound and value."""
    padding = 1 if fields.pad_token_id is None else fields.pad_token_id
    if padding < 0:
        raise UnsupportedModel(f"pad_token_id must be at least 0, got {padding}")
    names = Classifier("classifier.dense", "classifier.out_proj")
    return encoder(fields, "roberta.", padding + 1, names)


FAMILY = Family(
    "RobertaModel",
    "roberta",
    BERT_DEFAULTS | {"vocab_size": 50_265, "pad_token_id": 1},
    spec,
    models="RoBERTa",
    kind="encoder",
    beside="positions counted from behind the padding token's number",
)
