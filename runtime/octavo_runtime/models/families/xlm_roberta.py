"""XLM-RoBERTa: transformers' XLMRobertaConfig; bge-m3, multilingual-e5 and the bge rerankers. As RoBERTa."""

from octavo_runtime.models.families import roberta
from octavo_runtime.models.families.bert import BERT_DEFAULTS
from octavo_runtime.models.family import Family

FAMILY = Family(
    "XLMRobertaModel",
    "xlm-roberta",
    BERT_DEFAULTS | {"pad_token_id": 1},
    roberta.spec,
    models="multilingual-e5, bge-m3 (its dense vectors), bge-reranker",
    kind="encoder",
    beside="as RoBERTa",
)
