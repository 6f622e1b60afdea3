"""Decoders that score a document by their next word, against transformers and sentence-transformers in float32."""

import json
from typing import get_args

import numpy as np
import pytest
import torch
from encoder_models import SENTENCES, save_encoder, write_json
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from octavo_runtime import LLM
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.rerankers import RERANKERS, template_of
from octavo_runtime.models.spec import UnsupportedModel

QUERY, ASKED = SENTENCES[1], "Given a web search query, retrieve relevant passages that answer the query"
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
BEHIND = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def published(document: str, instruct: str = ASKED) -> str:
    return f"{BEFORE}<Instruct>: {instruct}\n<Query>: {QUERY}\n<Document>: {document}{BEHIND}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reranker")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({piece: n for n, piece in enumerate([*letters, "yes", "no"])}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    made.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **names, chat_template="plain").save_pretrained(folder)
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=272,
        hidden_size=48,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=1024,
    )
    model = Qwen3ForCausalLM(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return folder


@torch.inference_mode()
def probabilities(folder, texts: list[str]) -> list[float]:
    """As the model card computes them: of yes against no."""
    model, tokenizer = Qwen3ForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    words = tokenizer.convert_tokens_to_ids(["no", "yes"])
    logits = [model(tokenizer(text, return_tensors="pt")["input_ids"]).logits[0, -1, words] for text in texts]
    return [float(one.softmax(0)[1]) for one in logits]


def test_the_original_qwen3_reranker_scores_as_published(folder):
    llm = LLM(str(folder), dtype="float32", device="cpu", reranker="qwen3")
    expected = probabilities(folder, [published(text) for text in SENTENCES])
    assert max(expected) - min(expected) > 1e-3
    np.testing.assert_allclose(llm.score(QUERY, SENTENCES, use_tqdm=False), expected, rtol=0, atol=1e-5)
    assert llm._engine.ready.task.task == "score"
    [other] = probabilities(folder, [published(SENTENCES[0], "find me rain")])
    found = llm.score(QUERY, SENTENCES[0], instruction="find me rain", use_tqdm=False)
    np.testing.assert_allclose(found, [other], rtol=0, atol=1e-5)


def test_a_checkpoints_own_files_may_say_it_with_an_instruction(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "chat_template.jinja").write_text(RERANKERS["qwen3"].template)
    kinds = {"": "sentence_transformers.base.modules.transformer.Transformer"}
    kinds["1_LogitScore"] = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
    listed = [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (path, kind) in enumerate(kinds.items())]
    write_json(tmp_path / "modules.json", listed)
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = {"true_token_id": words["yes"], "false_token_id": words["no"]}
    write_json(tmp_path / "1_LogitScore" / "config.json", tokens)
    prompts = {"prompts": {"web": "find me rain"}, "default_prompt_name": "web"}
    write_json(tmp_path / "config_sentence_transformers.json", prompts)
    expected = probabilities(folder, [published(text, "find me rain") for text in SENTENCES])
    found = LLM(str(tmp_path), dtype="float32", device="cpu").score(QUERY, SENTENCES, use_tqdm=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_what_cannot_be_such_a_reranker_is_refused(folder, tmp_path):
    save_encoder("bert", tmp_path)
    with pytest.raises(UnsupportedModel, match="reranker: must be auto for a model that does not generate text"):
        LLM(str(tmp_path), device="cpu", reranker="qwen3")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(UnsupportedModel, match="must have the word 'yes' as a token for a reranker, has none"):
        LLM(str(tmp_path), device="cpu", reranker="qwen3")
    with pytest.raises(UnsupportedModel, match="reranker: must be auto for a GGUF file, got qwen3"):
        LLM("builtin://smollm2", device="cpu", reranker="qwen3")


def test_every_reranker_can_be_asked_for_and_its_template_replaced():
    assert {"auto", *RERANKERS} == set(get_args(EngineConfig.model_fields["reranker"].annotation))
    assert template_of(EngineConfig(model="m")) is None
    assert template_of(EngineConfig(model="m", reranker="qwen3", chat_template="mine")) == "mine"
