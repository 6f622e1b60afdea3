"""Families whose checkpoints name and order things in a way of their own: what of them is read, and what is refused."""

import json

import pytest
import torch
from family_models import FAMILIES, save
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, FalconConfig, GPT2Config, GPTNeoXConfig, NemotronConfig, OPTConfig

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.config_json import spec_from_config, spec_from_folder
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.tensor_shapes import tensor_shapes
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.parameters import parameter_count

CPU = torch.device("cpu")
FAMILY_CONFIGS = (BloomConfig(), FalconConfig(), GPT2Config(), GPTNeoXConfig(), NemotronConfig(), OPTConfig())


def _weights(folder):
    decoder = load_model(EngineConfig(model=str(folder)), locate(str(folder)), CPU, torch.float32)
    layers = decoder.stack.layers
    return [decoder.embedding.weight, *(layer.attention.qkv.weight for layer in layers), decoder.head.weight]


def _rewrite(folder, tensors, **config):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


def test_gpt_2_is_read_as_its_authors_stored_it(tmp_path):
    save(FAMILIES["gpt 2"], tmp_path)
    expected, tensors = _weights(tmp_path), load_file(tmp_path / "model.safetensors")
    own = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    _rewrite(tmp_path, {**own, "h.0.attn.bias": torch.ones(1, 1, 256, 256)})
    assert all(map(torch.equal, _weights(tmp_path), expected))


@pytest.mark.parametrize("theirs", FAMILY_CONFIGS, ids=lambda theirs: theirs.model_type)
def test_what_is_left_out_has_transformers_default(theirs):
    spec = spec_from_config({"model_type": theirs.model_type})
    assert (spec.vocab_size, spec.hidden_size) == (theirs.vocab_size, theirs.hidden_size)
    assert (spec.num_layers, spec.num_heads) == (theirs.num_hidden_layers, theirs.num_attention_heads)
    assert spec.tie_embeddings == theirs.tie_word_embeddings
    assert spec.max_position == getattr(theirs, "max_position_embeddings", 2048)
    names = [name for name in ("intermediate_size", "ffn_dim", "ffn_hidden_size") if hasattr(theirs, name)]
    assert spec.intermediate_size == (getattr(theirs, names[0]) if names else 4 * theirs.hidden_size)


@pytest.mark.parametrize("family", ["bloom", "opt 350m", "falcon, new", "gpt neox", "gpt 2", "nemotron, biases"])
def test_what_is_planned_checked_and_read_is_the_same(family, tmp_path):
    model, read = save(FAMILIES[family], tmp_path), {}
    spec = spec_from_folder(tmp_path)

    def note(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        read[name] = shape
        return torch.zeros(shape)

    build_decoder(spec, note, CPU, torch.float32)
    assert tensor_shapes(spec) == read
    assert parameter_count(spec) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "gpt2", "alibi": True}, "alibi must be unset or False, got True"),
        ({"model_type": "bloom", "apply_residual_connection_post_layernorm": True}, "must be false, got true"),
        ({"model_type": "falcon", "activation": "swish2"}, ".*act.* got swish2"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "and scale_attn_by_inverse_layer_idx false"),
        ({"model_type": "opt", "_remove_final_layer_norm": True}, "_remove_final_layer_norm must be unset or False"),
        ({"model_type": "opt", "layer_norm_elementwise_affine": False}, "affine must be unset or True, got False"),
        ({"model_type": "gpt2", "scale_attn_weights": False}, "scale_attn_weights must be true"),
        ({"model_type": "gpt2", "n_embd": "wide"}, "hidden_size: .*got"),
        ({"model_type": "rwkv"}, "architecture must be one of .*, got rwkv"),
        ({"architectures": ["MambaForCausalLM"]}, "architecture must be one of .*, got MambaForCausalLM"),
        ({"architectures": ["CLIPModel"]}, "architecture must be one of .*, got CLIPModel"),
    ],
)
def test_what_they_do_not_have_is_refused_in_one_line(config, words):
    with pytest.raises(UnsupportedModel, match=words) as refused:
        spec_from_config(config)
    assert "\n" not in str(refused.value)


def test_a_group_of_heads_is_not_cut():
    spec = spec_from_config(
        {
            "model_type": "falcon",
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "hidden_size": 512,
            "num_attention_heads": 8,
        }
    )
    assert shard(spec, 2).num_kv_heads == 1
    with pytest.raises(UnsupportedModel, match="must divide the 2 KV heads, got 4"):
        shard(spec, 4)
