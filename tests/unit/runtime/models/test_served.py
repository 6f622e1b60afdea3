"""Weights in 8 bits that are made at load."""

from pathlib import Path

import pytest
import torch
from packed_checkpoints import FORMATS, write_checkpoint
from small_models import save, shape

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.planning.memory import DoesNotFit, plan_memory


def load(folder: Path, dtype: torch.dtype = torch.float32, **options: object) -> Decoder:
    config = EngineConfig.model_validate({"model": str(folder), **options})
    return load_model(config, locate(str(folder)), torch.device("cpu"), dtype)


@pytest.mark.parametrize(("kind", "lost"), [("fp8", 2**-4), ("int8", 2**-7)])
def test_weights_keep_what_8_bits_can_hold(tmp_path: Path, kind: str, lost: float) -> None:
    model = save(shape(heads=3, kv_heads=1, head_dim=64, tied=False), tmp_path)
    weight = model.model.layers[0].mlp.down_proj.weight.detach()
    down = load(tmp_path, quantization=kind).stack.layers[0].mlp.down
    largest = weight.abs().amax(1, keepdim=True)
    difference = (down.weight - weight).abs()
    assert difference.max() > 0
    assert (difference <= lost * (weight.abs() if kind == "fp8" else largest) + largest * 2**-9).all()
    head = load(tmp_path, quantization=kind).head
    assert head.weight.equal(model.lm_head.weight)


def test_a_checkpoint_of_fewer_bits_is_served_as_it_is_or_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, *FORMATS["fp8 per row"])
    assert load(tmp_path, quantization="fp8").num_bytes == load(tmp_path).num_bytes
    with pytest.raises(
        UnsupportedModel, match="quantization: must be auto for a model stored as float-quantized, got int8"
    ):
        load(tmp_path, quantization="int8")
    config = EngineConfig.model_validate({"model": str(tmp_path), "quantization": "int8"})
    with pytest.raises(DoesNotFit, match="quantization: must be auto"):
        plan_memory(find_spec(str(tmp_path)), config, 2**34)


def test_a_gguf_file_is_refused() -> None:
    config = EngineConfig.model_validate({"model": "builtin://smollm2", "quantization": "int8"})
    with pytest.raises(UnsupportedModel, match="quantization: must be auto for a GGUF file, got int8"):
        load_model(config, locate("builtin://smollm2"), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_the_planner_knows(kind: str) -> None:
    spec = find_spec("Llama-3.1-8B")
    whole, eight = (
        plan_memory(spec, EngineConfig.model_validate({"model": "x", "quantization": each}), 80 * 2**30)
        for each in ("auto", kind)
    )
    embeddings = 2 * 128_256 * 4096 * 2
    assert eight.weight_bytes - embeddings == pytest.approx((whole.weight_bytes - embeddings) / 2, rel=0.01)
