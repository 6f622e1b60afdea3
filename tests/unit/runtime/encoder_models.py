"""Tiny random encoders with their tokenizers, as transformers and sentence-transformers write them."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraModel,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ModernBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

SENTENCES = ["the cat sat on a mat while rain fell", "what is rain made of ?", "water and some other thing"]
WORDS = " ".join(SENTENCES).split()
SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
}
_MODERN = {**SMALL, "max_position_embeddings": 64, "pad_token_id": 1, "num_hidden_layers": 5}
ENCODERS: dict[str, tuple[Any, Any, Any]] = {
    "bert": (BertModel, BertForSequenceClassification, BertConfig(**SMALL, max_position_embeddings=64)),
    "bert, relu": (
        BertModel,
        BertForSequenceClassification,
        BertConfig(**SMALL, max_position_embeddings=64, hidden_act="relu", layer_norm_eps=1e-5),
    ),
    "roberta": (
        RobertaModel,
        RobertaForSequenceClassification,
        RobertaConfig(**SMALL, max_position_embeddings=66, type_vocab_size=1),
    ),
    "xlm-roberta": (
        XLMRobertaModel,
        XLMRobertaForSequenceClassification,
        XLMRobertaConfig(**SMALL, max_position_embeddings=66, type_vocab_size=1),
    ),
    "electra": (
        ElectraModel,
        ElectraForSequenceClassification,
        ElectraConfig(**SMALL, max_position_embeddings=64, embedding_size=48),
    ),
    "distilbert": (
        DistilBertModel,
        DistilBertForSequenceClassification,
        DistilBertConfig(vocab_size=300, dim=48, hidden_dim=56, n_layers=3, n_heads=3, max_position_embeddings=64),
    ),
    "modernbert": (
        ModernBertModel,
        ModernBertForSequenceClassification,
        ModernBertConfig(**_MODERN, local_attention=11, global_attn_every_n_layers=2),
    ),
    "modernbert, biased": (
        ModernBertModel,
        ModernBertForSequenceClassification,
        ModernBertConfig(
            **_MODERN,
            local_attention=16,
            attention_bias=True,
            mlp_bias=True,
            norm_bias=True,
            classifier_bias=True,
            classifier_pooling="mean",
            hidden_activation="gelu_pytorch_tanh",
        ),
    ),
}


def save_encoder(name: str, folder: Path, *, labels: int | None = None) -> PreTrainedModel:
    """A random model with all its parameters moved off their first values, and its tokenizer. labels: scores of a
    model that scores texts."""
    plain, scoring, config = ENCODERS[name]
    torch.manual_seed(7)
    kind, settings = (plain, {}) if labels is None else (scoring, {"num_labels": labels})
    model = kind(type(config)(**{**config.to_diff_dict(), **settings})).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    tokenizer("unigram" if name == "xlm-roberta" else "wordpiece").save_pretrained(folder)
    return model


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Of WordPiece with BERT's special tokens, or of Unigram with XLM-RoBERTa's."""
    if kind == "wordpiece":
        first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        pieces = [*first, *dict.fromkeys(WORDS), *(chr(97 + n) for n in range(1, 26)), "##s", "##t", "##er"]
        made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        made.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), first, strict=True))
        return PreTrainedTokenizerFast(
            tokenizer_object=made,
            **names,
            model_max_length=64,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        )
    first = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [(piece, 0.0) for piece in first] + [(f"▁{word}", -2.0) for word in dict.fromkeys(WORDS)]
    pieces += [(chr(97 + n), -5.0) for n in range(26)] + [("▁", -4.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names, pad_token="<pad>", model_max_length=64)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
