"""InternLM, which transformers has no class of: a Llama's weights by its names, against that Llama."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import SMALL, save
from safetensors.torch import load_file, save_file
from small_models import make_engine, random_prompts, run, tokens_of
from transformers import LlamaConfig

from octavo_runtime.protocol.sampling_params import SamplingParams

HEAD = SMALL["hidden_size"] // SMALL["num_attention_heads"]
QUERIES = SMALL["num_attention_heads"] // SMALL["num_key_value_heads"]
NAMES = {
    "model.embed_tokens": "model.tok_embeddings",
    "lm_head": "output",
    "self_attn.o_proj": "attention.wo",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}


def by_groups(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The rows of each KV head's queries, of its keys and of its values."""
    groups = zip(q.split(QUERIES * HEAD), k.split(HEAD), v.split(HEAD), strict=True)
    return torch.cat([part for group in groups for part in group])


def as_internlm2(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in tensors.items():
        if ".q_proj." in name:
            parts = [tensors[name.replace("q_proj", f"{each}_proj")] for each in "qkv"]
            found[name.replace("self_attn.q_proj", "attention.wqkv")] = by_groups(*parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            theirs = next((theirs for theirs in NAMES if theirs in name), "")
            found[name.replace(theirs, NAMES.get(theirs, ""))] = tensor.clone()
    return found


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("version", [2, 3])
def test_tokens_equal_those_of_the_llama_that_it_is(version: int, biased: bool, tmp_path: Path) -> None:
    config = LlamaConfig(**SMALL, attention_bias=biased, mlp_bias=biased and version == 3)
    model = save(config, tmp_path)
    named: dict[str, Any] = {"model_type": f"internlm{version}", "architectures": [f"InternLM{version}ForCausalLM"]}
    said = json.loads((tmp_path / "config.json").read_text()) | named
    said |= {"bias": biased, "qkv_bias": biased, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    for name in ("attention_bias", "mlp_bias", "rope_parameters"):
        del said[name]
    (tmp_path / "config.json").write_text(json.dumps(said))
    weights = tmp_path / "model.safetensors"
    if version == 2:
        save_file(as_internlm2(load_file(weights)), weights)
    prompts = random_prompts(1, 7, 60)
    answers = run(make_engine(tmp_path), prompts, SamplingParams(temperature=0.0, max_tokens=9, ignore_eos=True))
    for prompt, answer in zip(prompts, map(tokens_of, answers), strict=True):
        with torch.inference_mode():
            scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        assert scores.argmax(-1).tolist() == answer
