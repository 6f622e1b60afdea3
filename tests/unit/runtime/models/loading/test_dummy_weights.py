"""Random weights are of the size that a model's have, in as few bits as its configuration says."""

from typing import Any

import pytest
import torch

from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.models.loading.dummy_weights import dummy_reader
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix

SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
FORMATS = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"},
    "gptq, 8 bits": {"quant_method": "gptq", "bits": 8, "group_size": 64, "desc_act": False},
    "fp8 in blocks": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic"},
    "squeezellm": {"quant_method": "squeezellm", "wbits": 4},
    "nf4": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
}
QUERY, EMBEDDING = "model.layers.1.self_attn.q_proj.weight", "model.embed_tokens.weight"


def read(quantization: dict[str, Any] | None, name: str, *shape: int) -> Any:
    config = SHAPE if quantization is None else SHAPE | {"quantization_config": quantization}
    return dummy_reader(spec_from_config(config), torch.device("cpu"), torch.float32, 7)(name, shape)


@pytest.mark.parametrize("name", FORMATS)
def test_projections_are_as_narrow_as_the_checkpoint_has_them(name: str) -> None:
    matrix = read(FORMATS[name], QUERY, 256, 256)
    assert isinstance(matrix, GroupedMatrix)
    assert matrix.values.element_size() == 1
    assert matrix.dequantize().std().item() == pytest.approx(0.02, rel=0.2)
    assert matrix.dequantize().equal(read(FORMATS[name], QUERY, 256, 256).dequantize())


@pytest.mark.parametrize("quantization", [None, FORMATS["awq"]])
def test_the_rest_is_not(quantization: dict[str, Any] | None) -> None:
    assert read(quantization, EMBEDDING, 512, 256).std().item() == pytest.approx(0.02, rel=0.2)
    assert read(quantization, "model.norm.weight", 256).equal(torch.ones(256))


def test_a_plain_model_has_plain_projections() -> None:
    assert isinstance(read(None, QUERY, 256, 256), torch.Tensor)
