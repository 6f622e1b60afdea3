"""Quantised checkpoints of every format, against transformers on the weights that they stand for."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_checkpoints import FORMATS, SHAPE, compressed, write_checkpoint
from safetensors.torch import load_file, save_file
from small_models import load_decoder, random_prompts

from octavo_runtime.layers.linear import grouped, prepacks
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.loading.config_json import spec_from_config, spec_from_folder
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.known_models import find_model
from octavo_runtime.planning.parameters import weight_bytes
from octavo_runtime.protocol.step import Slice
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.worker.batch import build_batch

CPU = torch.device("cpu")
[PROMPT] = random_prompts(20)


@torch.inference_mode()
def scores(decoder: Decoder, dtype: torch.dtype) -> torch.Tensor:
    """Of each token of PROMPT: all but the last as a prompt, the last as a decode."""
    cache = torch.zeros(SHAPE.num_hidden_layers, 2, 2, 16, SHAPE.num_key_value_heads, SHAPE.head_dim, dtype=dtype)
    table = np.array([[[0, 1]]], dtype=np.int32)
    found = [
        decoder.forward(build_batch([Slice(0, start, tokens)], table, 16, CPU), cache)
        for start, tokens in ((0, PROMPT[:-1]), (len(PROMPT) - 1, PROMPT[-1:]))
    ]
    return torch.cat([decoder.logits(hidden) for hidden in found])


@pytest.mark.parametrize("name", FORMATS)
@torch.inference_mode()
def test_scores_are_those_of_the_weights_that_are_meant(name: str, tmp_path: Path) -> None:
    """In float32 nearly to the last bit; in 16 bits, where few rows run packed, to what these lose."""
    checkpoint = write_checkpoint(tmp_path, *FORMATS[name])
    expected = checkpoint.model(torch.tensor([PROMPT])).logits[0]
    exact = scores(load_decoder(tmp_path, torch.float32), torch.float32)
    torch.testing.assert_close(exact, expected, rtol=1e-4, atol=1e-4)
    rounded = scores(load_decoder(tmp_path, torch.bfloat16), torch.bfloat16)
    torch.testing.assert_close(rounded, expected, rtol=0, atol=0.05 * float(expected.abs().max()))


@pytest.mark.parametrize("name", FORMATS)
def test_a_gpus_form_computes_the_same_and_takes_what_is_planned(name: str, tmp_path: Path) -> None:
    """Its oracle, on the CPU: what is stored, packed once more."""
    write, quantization = FORMATS[name]
    write_checkpoint(tmp_path, write, quantization)
    spec = spec_from_folder(tmp_path)
    assert spec.quantization is not None
    folder = SafetensorsFolder(tmp_path, scheme=spec.quantization)
    module, shape = "model.layers.0.mlp.down_proj", (64, 128)
    stored = folder.read(f"{module}.weight", shape)
    assert isinstance(stored, GroupedMatrix)
    linear = grouped(stored, None, CPU, torch.bfloat16)
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    expected = x @ stored.dequantize().T
    if stored.outliers is None:  # whose product torch has for one type at a time
        torch.testing.assert_close(linear(x), expected, rtol=0, atol=2e-3 * float(expected.abs().max()))
        assert abs(spec.quantization.num_bytes(*shape) - linear.num_bytes) <= 0.02 * linear.num_bytes
    assert spec.quantization.covers(module)
    assert not spec.quantization.covers("lm_head")


@pytest.mark.parametrize("name", ["awq", "int8", "gptq, its own order, asymmetric"])
def test_a_cpu_holds_what_is_planned(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, *FORMATS[name])
    found = find_model(str(tmp_path))
    decoder = load_decoder(tmp_path, torch.bfloat16)
    assert (decoder.few_rows is not None) == (found.packed_bytes > 0) == ("order" not in name)
    planned = weight_bytes(found.spec, 2, "cpu") + found.packed_bytes
    if decoder.few_rows is not None and not prepacks(torch.bfloat16):  # the CPU needs the packed weights alone
        assert found.packed_bytes < decoder.num_bytes < planned
        return
    held = sum(layer.attention.qkv.num_bytes + layer.mlp.down.num_bytes for layer in decoder.stack.layers)
    assert held == 2 * 2 * (192 * 64 + 64 * 128)
    norms = decoder.few_rows.num_bytes if decoder.few_rows is not None else 0
    assert decoder.num_bytes - norms == weight_bytes(found.spec, 2, "cpu")
    assert abs(decoder.num_bytes - planned) <= 0.02 * planned


_AWQ = FORMATS["awq"][1]
_GPTQ = FORMATS["gptq"][1]
_GROUP = {"targets": ["Linear"], "weights": {"type": "int", "num_bits": 4, "strategy": "group", "group_size": 32}}
_TENSORS = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": _GROUP}}


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "hqq"}, "quant_method must be one of awq, gptq, .*, got 'hqq'"),
        ({}, "quant_method must be one of .*, got None"),
        ({**_AWQ, "bits": 3}, "bits must be 4, got 3"),
        ({**_AWQ, "bits": 4.0}, "bits must be 4, got 4.0"),
        ({**_AWQ, "group_size": 0}, "group_size must be -1 or at least 1, got 0"),
        ({**_GPTQ, "bits": 4.0}, "bits must be 4 or 8, got 4.0"),
        ({**_GPTQ, "bits": True}, "bits must be 4 or 8, got True"),
        ({**_GPTQ, "group_size": 0}, "group_size must be -1 or at least 1, got 0"),
        ({"quant_method": "squeezellm", "wbits": 4.0}, "bits must be 4, got 4.0"),
        (compressed("pack-quantized", num_bits=4.0, strategy="channel"), "num_bits must be 4 or 8, got 4.0"),
        (compressed("int-quantized", num_bits=8.0, strategy="channel"), "num_bits must be 4 or 8, got 8.0"),
        (compressed("int-quantized", strategy="channel"), "num_bits must be 4 or 8, got None"),
        ({**_AWQ, "version": "gemv"}, "version must be gemm, whose order of weights is read, got 'gemv'"),
        ({**_AWQ, "group_size": 0.5}, "group_size must be -1 or at least 1, got 0.5"),
        ({**_AWQ, "modules_to_not_convert": "head"}, "modules_to_not_convert must be a list of modules"),
        ({**_GPTQ, "bits": 2}, "bits must be 4 or 8, got 2"),
        ({**_GPTQ, "checkpoint_format": "marlin"}, "checkpoint_format must be gptq or gptq_v2, got 'marlin'"),
        (
            {**_GPTQ, "dynamic": {"+:.*down.*": {"bits": 8}}},
            r"dynamic must be of modules that are left out \(-:\) alone",
        ),
        ({**_TENSORS, "config_groups": {}}, "config_groups must be an object of groups"),
        ({**_TENSORS, "format": "marlin-24"}, r"format must be one of .*, got 'marlin-24 \(int 4\)'"),
        ({**_TENSORS, "ignore": ["re:("]}, "ignore must be of regular expressions"),
        ({**_TENSORS, "ignore": 7}, "ignore must be a list of modules, got 7"),
        ({**_TENSORS, "ignore": [7]}, "ignore must be a list of modules, got 7"),
        (
            {**_TENSORS, "config_groups": {"a": {**_GROUP, "targets": True}}},
            "targets must be a list of modules, got True",
        ),
        ({**_TENSORS, "sparsity_config": "dense"}, "sparsity_config must be an object, got 'dense'"),
        ({**_TENSORS, "transform_config": {"a": 1}}, "transform_config must be unset"),
        ({**_TENSORS, "sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config.format must be dense"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "fmt must be e4m3 or float8_e4m3fn, got 'e5m2'"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size must be two sizes"),
        ({"quant_method": "bitsandbytes"}, "load_in_4bit must be true, or load_in_8bit, got None"),
        ({"quant_method": "squeezellm", "wbits": 3}, "bits must be 4, got 3"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(quantization: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"quantization_config\.{message}"):
        spec_from_config(
            {**SHAPE.to_dict(), "architectures": ["LlamaForCausalLM"], "quantization_config": quantization}
        )


def test_parts_are_held_against_the_format_before_any_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, *FORMATS["awq"])
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    at = "model.layers.1.self_attn.q_proj"

    def refused(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, path, metadata={"format": "pt"})
        with pytest.raises(UnsupportedModel) as caught:
            load_decoder(tmp_path, torch.float32)
        return str(caught.value)

    assert refused({name: tensor for name, tensor in tensors.items() if name != f"{at}.scales"}) == (
        f"the safetensors files have no tensor {at}.scales"
    )
    assert refused({**tensors, f"{at}.scales": tensors[f"{at}.scales"][:1]}) == (
        f"{at}.scales: shape must be (2, 128), got (1, 128)"
    )
    assert refused({**tensors, f"{at}.qweight": tensors[f"{at}.qweight"].long()}) == (
        f"{at}.qweight: type must be one of I32, got I64"
    )
    assert "that the model does not read" in refused({**tensors, f"{at}.other": torch.ones(1)})
    assert "that the model does not read" in refused({**tensors, f"{at}.bias": torch.ones(128)})
    save_file({**tensors, f"{at}.bias": torch.zeros(128)}, path, metadata={"format": "pt"})
    load_decoder(tmp_path, torch.float32)  # a bias of zeros changes nothing


@pytest.mark.parametrize("actorder", ["group", "dynamic", True])
def test_groups_in_an_order_that_the_files_lack_are_refused(actorder: str | bool, tmp_path: Path) -> None:
    of_layout = {"gptq, its own order, asymmetric": "g_idx", "int4 groups, their own order": "weight_g_idx"}
    for name, part in of_layout.items():
        write, quantization = FORMATS[name]
        if "config_groups" in quantization:
            quantization = compressed("pack-quantized", num_bits=4, strategy="group", group_size=32, actorder=actorder)
        write_checkpoint(tmp_path, write, quantization)
        path, lacking = tmp_path / "model.safetensors", f"model.layers.1.mlp.up_proj.{part}"
        tensors = load_file(path)
        del tensors[lacking]
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(UnsupportedModel, match=f"^the safetensors files have no tensor {lacking}$"):
            load_decoder(tmp_path, torch.float32)


@torch.inference_mode()
def test_one_group_of_all_inputs_needs_no_order(tmp_path: Path) -> None:
    write, quantization = FORMATS["gptq, 8 bits"]

    def of_rows(weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """With the first group's scale and zero for all inputs, and no g_idx."""
        stored, meant = write(weight)
        scales = stored["scales"].float().T
        meant = meant / scales.repeat_interleave(32, dim=1) * scales[:, :1]
        del stored["g_idx"]
        return stored | {part: stored[part][:1].clone() for part in ("scales", "qzeros")}, meant

    checkpoint = write_checkpoint(tmp_path, of_rows, {**quantization, "group_size": -1, "desc_act": True})
    expected = checkpoint.model(torch.tensor([PROMPT])).logits[0]
    found = scores(load_decoder(tmp_path, torch.float32), torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


Change = Callable[[torch.Tensor], torch.Tensor]


def at(place: int, number: int) -> Change:
    """Another number at a place."""
    return lambda stored: stored.index_fill(0, torch.tensor(place % len(stored)), number)


def cut(stored: torch.Tensor) -> torch.Tensor:
    return stored[:-1].clone()


def state(**fields: Any) -> Change:
    """quant_state with other fields, ... for one that is not there."""

    def changed(stored: torch.Tensor) -> torch.Tensor:
        said = json.loads(bytes(stored.tolist())) | fields
        return text(json.dumps({name: value for name, value in said.items() if value is not ...}).encode())(stored)

    return changed


def text(content: bytes) -> Change:
    return lambda _: torch.tensor(list(content), dtype=torch.uint8)


_STATE = "weight.quant_state.bitsandbytes__nf4"


@pytest.mark.parametrize(
    ("name", "part", "change", "message"),
    [
        ("squeezellm, sparse", "rows", at(0, 1), r"rows must be from 0 to \d+, the numbers of cols, got 1 to \d+"),
        ("squeezellm, sparse", "rows", at(5, 10**6), r"rows must not fall, got \d+ after 1000000"),
        ("squeezellm, sparse", "rows", at(9, -3), r"rows must not fall, got -3 after \d+"),
        ("squeezellm, sparse", "cols", at(2, 128), "cols must be from 0 to 127, got 128"),
        ("squeezellm, sparse", "cols", at(2, -1), "cols must be from 0 to 127, got -1"),
        ("squeezellm, sparse", "cols", cut, r"rows must be from 0 to \d+, the numbers of cols, got 0 to \d+"),
        ("squeezellm, sparse", "vals", cut, r"vals must hold \d+ numbers as cols does, got \d+"),
        ("squeezellm, sparse", "full_row_indices", at(0, 64), "full_row_indices must be from 0 to 63, got 64"),
        ("squeezellm, sparse", "full_row_indices", at(0, -1), "full_row_indices must be from 0 to 63, got -1"),
        ("squeezellm, sparse", "full_row_indices", cut, "full_row_indices must hold 1 numbers, .*, got 0"),
        ("nf4", _STATE, text(b"junk"), "quant_state.value: invalid JSON: .*, got b'junk'"),
        ("nf4", _STATE, text(b"junk" * 1000), r"quant_state.value: invalid JSON: .* \.\.\."),
        ("nf4", _STATE, text(b"[4]"), r"quant_state.value: input should be an object, got \[4\]"),
        ("nf4", _STATE, state(blocksize=0), "quant_state.blocksize: .* greater than or equal to 1, got 0"),
        ("nf4", _STATE, state(blocksize=-64), "quant_state.blocksize: .* greater than or equal to 1, got -64"),
        (
            "nf4",
            _STATE,
            state(blocksize="wide"),
            "quant_state.blocksize: input should be a valid integer, .*, got 'wide'",
        ),
        ("nf4", _STATE, state(blocksize=...), "quant_state.blocksize: field required"),
        ("nf4", _STATE, state(shape=...), "quant_state.shape: field required"),
        ("nf4", _STATE, state(shape=None), "quant_state.shape: input should be a valid array, got None"),
        ("nf4", _STATE, state(blocksize=128), "weight.absmax must hold 64 scales of 128 numbers each, got 128"),
        ("nf4", "weight.absmax", cut, "weight.absmax must hold 128 scales of 64 numbers each, got 127"),
        ("nf4, nested", "weight.absmax", cut, "weight.absmax must hold 128 scales of 64 numbers each, got 127"),
        (
            "nf4, nested",
            "weight.nested_absmax",
            cut,
            "weight.nested_absmax must hold 1 scales of 256 numbers each, got 0",
        ),
        ("nf4, nested", _STATE, state(nested_blocksize=64), "weight.nested_absmax must hold 2 scales .*, got 1"),
        ("nf4, nested", _STATE, state(nested_blocksize=0), "quant_state.nested_blocksize: .* equal to 1, got 0"),
        ("nf4, nested", _STATE, state(nested_blocksize=...), "quant_state.nested_blocksize: field required"),
        ("nf4, nested", _STATE, state(nested_offset=...), "quant_state.nested_offset: field required"),
        (
            "nf4, nested",
            _STATE,
            state(nested_offset=float("nan")),
            "quant_state.nested_offset: .* finite number, got nan",
        ),
    ],
)
def test_damaged_parts_are_refused_by_name(name: str, part: str, change: Change, message: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, *FORMATS[name])
    path, module = tmp_path / "model.safetensors", "model.layers.1.mlp.down_proj"
    tensors = load_file(path)
    tensors[f"{module}.{part}"] = change(tensors[f"{module}.{part}"])
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=rf"^{module}\.weight: {message}$") as caught:
        load_decoder(tmp_path, torch.float32)
    assert len(str(caught.value)) < 400


def test_scales_of_8_bits_are_nested(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, *FORMATS["nf4"])
    path, name = tmp_path / "model.safetensors", "model.layers.1.mlp.down_proj.weight.absmax"
    tensors = load_file(path)
    tensors[name] = tensors[name].to(torch.uint8)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=rf"^{name}: type must be one of F32, F16, BF16, got U8$"):
        load_decoder(tmp_path, torch.float32)


def test_sparse_outliers_bring_no_warning(tmp_path: Path) -> None:
    """In a process of its own, since torch warns once: what a CPU loads, and what a GPU multiplies."""
    write_checkpoint(tmp_path, *FORMATS["squeezellm, sparse"])
    code = f"""
from pathlib import Path
import torch
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.linear import grouped
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder

cpu, folder = torch.device("cpu"), {str(tmp_path)!r}
load_model(EngineConfig(model=folder), locate(folder), cpu, torch.bfloat16)
scheme = spec_from_folder(Path(folder)).quantization
stored = SafetensorsFolder(Path(folder), scheme=scheme).read("model.layers.0.mlp.down_proj.weight", (64, 128))
for part in (stored, *stored.split(2)):
    y = grouped(part, None, cpu, torch.float32)(torch.ones(1, 128))
    print(float((y - part.dequantize().sum(1)).abs().max()))
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(errors := done.stdout.split()) == 3
    assert max(map(float, errors)) < 0.1


def test_a_module_may_be_left_as_it_is_and_the_configuration_may_lie_beside(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, *FORMATS["gptq"])
    path, at = tmp_path / "model.safetensors", "model.layers.0.mlp.up_proj"
    tensors = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(f"{at}.")}
    kept = checkpoint.model.get_submodule(at).weight.detach().clone()
    save_file({**tensors, f"{at}.weight": kept}, path, metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    beside = config.pop("quantization_config") | {"dynamic": {r"-:.*layers\.0\.mlp\.up_proj": {}}}
    del beside["quant_method"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "quantize_config.json").write_text(json.dumps(beside))
    with torch.inference_mode():
        expected = checkpoint.model(torch.tensor([PROMPT])).logits[0]
    torch.testing.assert_close(
        scores(load_decoder(tmp_path, torch.float32), torch.float32), expected, rtol=1e-4, atol=1e-4
    )
    scheme = spec_from_folder(tmp_path).quantization
    assert scheme is not None
    assert [scheme.covers(name) for name in (at, at.replace("0", "1"))] == [False, True]


@pytest.mark.parametrize("name", FORMATS)
def test_ranks_have_rows_and_columns_in_the_same_form(name: str, tmp_path: Path) -> None:
    """As sharding cuts them; where whole groups cannot be cut, the weight is dequantised."""
    write_checkpoint(tmp_path, *FORMATS[name])
    spec = spec_from_folder(tmp_path)
    stored = SafetensorsFolder(tmp_path, scheme=spec.quantization).read(
        "model.layers.0.mlp.down_proj.weight", (64, 128)
    )
    assert isinstance(stored, GroupedMatrix)
    whole = stored.dequantize()
    places = torch.arange(16, 48)
    assert stored.rows(places).dequantize().equal(whole[16:48])
    columns = stored.columns(64, 64)
    if any(word in name for word in ("order", "sparse", "blocks")):
        assert columns is None or "blocks" in name
    else:
        assert columns is not None
    if columns is not None:
        assert columns.dequantize().equal(whole[:, 64:])
    assert stored.columns(60, 10) is None or stored.scales.shape[1] == 1
