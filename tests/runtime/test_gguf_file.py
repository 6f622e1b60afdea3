"""GGUF files of each supported type, against the same weights in transformers."""

import gguf
import pytest
import torch
from random_gguf import CONFIG, random_model, write

from octavo_runtime.config import EngineConfig
from octavo_runtime.engine import Engine
from octavo_runtime.model.gguf_file import GGUFFile
from octavo_runtime.model.spec import UnsupportedModel
from octavo_runtime.quant.groups import Groups
from octavo_runtime.sampling_params import SamplingParams


def greedy(path, prompt: list[int]) -> list[int]:
    engine = Engine(EngineConfig(model=str(path), device="cpu", dtype="float32", kv_cache_memory="8Mi"))
    engine.add_request("r", prompt, SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True))
    tokens = []
    while engine.has_work:
        tokens += [token for output in engine.step() for token in output.token_ids]
    return tokens


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_tokens_equal_transformers_on_the_same_weights(kind, tmp_path):
    model = random_model()
    write(tmp_path / "model.gguf", model, gguf.GGMLQuantizationType[kind])
    prompt = [5, 9, 100, 159, 7, 0, 42]
    answer = greedy(tmp_path / "model.gguf", prompt)
    with torch.inference_mode():
        scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    assert scores.argmax(-1).tolist() == answer


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("name", ["mlp.down_proj", "self_attn.q_proj", "self_attn.k_proj"])
def test_tensors_in_groups_stay_so_and_mean_what_gguf_says(kind, name, tmp_path):
    model = random_model()
    write(tmp_path / "model.gguf", model, gguf.GGMLQuantizationType[kind])
    weight = dict(model.named_parameters())[f"model.layers.1.{name}.weight"].detach()  # as gguf's own code unpacks it
    stored = GGUFFile(tmp_path / "model.gguf").read(f"model.layers.1.{name}.weight", tuple(weight.shape))
    assert isinstance(stored, Groups)
    assert (stored.minimums is None) == (kind == "Q8_0")
    torch.testing.assert_close(stored.dequantize(), weight, rtol=0, atol=1e-7)


def test_a_file_without_an_output_head_ties_it_to_the_embedding(tmp_path):
    write(tmp_path / "model.gguf", random_model(), gguf.GGMLQuantizationType.F32, tied=True)
    file = GGUFFile(tmp_path / "model.gguf")
    assert file.spec.tie_embeddings
    assert file.spec.eos_token_ids == (3,)
    assert file.spec.vocab_size == CONFIG.vocab_size  # from the embedding: the metadata does not name it
    assert len(greedy(tmp_path / "model.gguf", [1, 2])) == 16


def test_unsupported_types_and_shapes_are_named(tmp_path):
    write(tmp_path / "model.gguf", random_model(), gguf.GGMLQuantizationType.Q5_0)
    file = GGUFFile(tmp_path / "model.gguf")
    with pytest.raises(UnsupportedModel, match=r"token_embd\.weight: type must be one of F32, F16, .* got Q5_0"):
        file.read("model.embed_tokens.weight", (160, 64))
    with pytest.raises(UnsupportedModel, match=r"output_norm\.weight: shape must be \(65,\), got \(64,\)"):
        file.read("model.norm.weight", (65,))
