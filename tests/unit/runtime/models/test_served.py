"""Weights in 8 bits that are made at load, and formats that are asked for by name."""

import typing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoder_models import save_encoder
from expert_models import EXPERT_FAMILIES
from family_models import save as save_family
from packed_checkpoints import FORMATS, write_checkpoint
from small_models import save, shape

from octavo_kernels.experts import StackedGroups
from octavo_kernels.experts.reference import dequantize
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.experts import Experts
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading import experts
from octavo_runtime.models.loading.checkpoint import load_encoder, load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.served import as_served
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.advice import remedies
from octavo_runtime.planning.gpus import find_gpu
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.planning.limits import DoesNotFit
from octavo_runtime.planning.memory import plan_memory
from octavo_runtime.planning.parameters import expert_size
from octavo_runtime.planning.quantized_weights import expert_saving
from octavo_runtime.quantization.scheme import Format, Scheme


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


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(("kind", "lost"), [("fp8", 2**-4), ("int8", 2**-7)])
@pytest.mark.parametrize("name", ["qwen 3 moe", "granite moe", "gpt-oss"])
def test_experts_do_too_however_they_are_stored(
    name: str, kind: str, lost: float, on_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_family(EXPERT_FAMILIES[name], tmp_path)
    plain = load(tmp_path).stack.layers[-1].mlp
    if on_gpu:  # its form, on the CPU
        monkeypatch.setattr(experts, "unpacks", lambda device, dtype: True)
    decoder = load(tmp_path, quantization=kind)
    mlp = decoder.stack.layers[-1].mlp
    for found, weight in ((mlp.gate_up, plain.gate_up), (mlp.down, plain.down)):
        assert isinstance(found, StackedGroups) == on_gpu
        difference = (dequantize(found) - weight).abs()
        largest = weight.abs().amax(-1, keepdim=True)
        assert difference.max() > 0
        assert (difference <= lost * (weight.abs() if kind == "fp8" else largest) + largest * 2**-9).all()
    if on_gpu:
        has = decoder.spec.experts
        without_biases = replace(decoder.spec, experts=replace(has, has_biases=False))
        whole = 2 * len(has.layers) * len(has.here) * expert_size(without_biases)
        every = [layer.mlp for layer in decoder.stack.layers if isinstance(layer.mlp, Experts)]
        held = sum(each.gate_up.nbytes + each.down.nbytes for each in every)
        assert whole - expert_saving(decoder.spec) == pytest.approx(held, rel=0.02)


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


FORMAT_NAMES = ("awq", "gptq", "compressed-tensors", "bitsandbytes", "fbgemm_fp8", "squeezellm", "gguf", "mxfp4")


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_format_that_is_named_is_that_of_the_checkpoint(name: str) -> None:
    config = EngineConfig.model_validate({"model": "x", "quantization": name})
    plain, packed = find_spec("Llama-3.1-8B"), find_spec("gpt-oss-20b")
    what = "must be auto, fp8 or int8 for a model stored in 16 or 32 bits, got"
    with pytest.raises(UnsupportedModel, match=f"^quantization: {what} {name}; it may be left out$"):
        as_served(plain, config)
    if name == "mxfp4":
        assert as_served(packed, config) == packed
    else:
        with pytest.raises(UnsupportedModel, match=f"for a model of experts in MXFP4, got {name}"):
            as_served(packed, config)
    for form in typing.get_args(Format):
        stored = replace(plain, quantization=Scheme(form, 4))
        if form.startswith(name) or (form, name) == ("fp8", "fbgemm_fp8") or (name[0] == "c" and "quantized" in form):
            assert as_served(stored, config) == stored
        else:
            with pytest.raises(UnsupportedModel, match=f"quantization: must be auto for a .*, got {name}; it may"):
                as_served(stored, config)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    save_encoder("bert", tmp_path)
    for name in ("fp8", "awq"):
        config = EngineConfig.model_validate({"model": str(tmp_path), "quantization": name})
        with pytest.raises(UnsupportedModel, match=f"quantization: must be auto for an encoder, got {name}"):
            load_encoder(config, locate(str(tmp_path)), torch.device("cpu"), torch.float32)
    spec, asked = find_spec(str(tmp_path)), EngineConfig.model_validate({"model": str(tmp_path)})
    settings = {advice.setting for advice in remedies(spec, asked, find_gpu("t4", "1MB"))}
    assert "quantization" not in settings


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
