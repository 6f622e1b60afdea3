"""What is wrong with a checkpoint is one line that names the tensor or the field, in families of every shape."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from encoder_models import save_encoder
from family_models import FAMILIES, random, save
from gguf_families import write_converted
from safetensors.torch import load_file, save_file

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.finite import check_placed
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.spec import UnsupportedModel

Tensors = dict[str, torch.Tensor]
SHAPES = (
    "llama", "qwen 2", "gemma 3", "phi 3, longrope", "olmo 2", "falcon, new", "bloom", "gpt 2", "gpt neox", "opt 350m",
    "stablelm, 12b", "mixtral", "qwen 2 moe", "gpt-oss", "granite moe, shared", "phi moe", "glm 4.5", "deepseek v2",
    "deepseek v3", "minicpm 3",
)  # fmt: skip


@pytest.fixture(params=[*SHAPES, "bert", "modernbert"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A whole checkpoint, to be spoilt."""
    if request.param in FAMILIES:
        save(FAMILIES[request.param], tmp_path)
    else:
        save_encoder(request.param, tmp_path)
    return tmp_path


def change(folder: Path, mend: Callable[[Tensors], Any]) -> str:
    """Changes the tensors; the name of one in the middle, as the file has it."""
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[len(tensors) // 2]
    mend(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return name


def middle(tensors: Tensors) -> str:
    return sorted(tensors)[len(tensors) // 2]


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(UnsupportedModel) as error:
        Engine(EngineConfig(model=str(folder), device="cpu", kv_cache_memory="16Mi", **settings))
    [line] = str(error.value).splitlines()
    assert len(line) < 400
    return line


def ends_as(name: str) -> str:
    """What a name has in common, whatever its checkpoint calls the model and its layers."""
    return ".".join(name.split(".")[-2:])


def test_a_tensor_that_is_missing(folder):
    name = change(folder, lambda tensors: tensors.pop(middle(tensors)))
    line = refusal(folder)
    assert "have no tensor" in line
    assert ends_as(name) in line


def test_a_tensor_too_many(folder):
    change(folder, lambda tensors: tensors.update({middle(tensors) + "_scale_2": torch.ones(1)}))
    line = refusal(folder)
    assert "have tensors that the model does not read: " in line
    assert line.endswith("_scale_2")


def test_a_tensor_of_another_shape(folder):
    def widen(tensors: Tensors) -> None:
        tensor = tensors[middle(tensors)]
        tensors[middle(tensors)] = torch.cat((tensor, tensor[:1]))

    name = change(folder, widen)
    line = refusal(folder)
    assert f"{ends_as(name)}: shape must be (" in line


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_number_that_is_none(folder, dtype, value):
    name = change(folder, lambda tensors: tensors[middle(tensors)].view(-1)[-1:].fill_(value))
    line = refusal(folder, dtype=dtype)
    assert f"{ends_as(name)} must hold finite numbers, got NaN or infinity" in line


@pytest.mark.parametrize("kept", [0, 7, 1000, -1])
def test_a_file_that_is_broken_off(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(folder).startswith(f"{path}: is no whole safetensors file: ")


def test_a_configuration_that_lies(folder):
    path = folder / "config.json"
    told = json.loads(path.read_text())
    layers = next(name for name in ("num_hidden_layers", "n_layer", "n_layers") if name in told)
    experts = [name for name in told if name.endswith("_experts") and "shared" not in name and told[name]]
    for name, more in [(layers, 1), (layers, -1), ("vocab_size", 1), *((name, 1) for name in experts)]:
        path.write_text(json.dumps({**told, name: told[name] + more}))
        line = refusal(folder)
        assert any(words in line for words in (name, "tensor", "shape must be", "must divide the experts"))


def lengthen(tensors: dict[str, np.ndarray], name: str) -> None:
    tensors[name] = np.concatenate((tensors[name], tensors[name]))


def spoil(tensors: dict[str, np.ndarray], name: str) -> None:
    tensors[name] = np.full_like(tensors[name], np.nan)


GGUF_FAULTS: dict[str, tuple[Callable[[dict[str, np.ndarray], str], Any], str]] = {
    "missing": (lambda tensors, name: tensors.pop(name), "the GGUF file has no tensor {}"),
    "too many": (
        lambda tensors, name: tensors.update({f"{name}_2": np.ones(1, np.float32)}),
        "the GGUF file has tensors that the model does not read: {}_2",
    ),
    "of another shape": (lengthen, "{}: shape must be "),
    "no number": (spoil, "{} must hold finite numbers, got NaN or infinity"),
}


GGUF_FAMILIES = pytest.mark.parametrize(
    "family",
    ["llama", "gemma 3", "phi 3", "falcon", "bloom", "gpt 2", "stablelm, 12b", "mixtral", "olmoe", "glm 4.5",
     "gpt-oss", "phi moe", "deepseek v2"],
)  # fmt: skip


@pytest.mark.parametrize("fault", GGUF_FAULTS)
@GGUF_FAMILIES
def test_a_tensor_of_a_gguf_file(family, fault, tmp_path, monkeypatch):
    change, words = GGUF_FAULTS[fault]
    tensors: dict[str, np.ndarray] = {}
    add, write = gguf.GGUFWriter.add_tensor, gguf.GGUFWriter.write_header_to_file
    monkeypatch.setattr(
        gguf.GGUFWriter, "add_tensor", lambda _, name, values, **options: tensors.update({name: values})
    )

    spoilt: list[str] = []

    def write_changed(writer: gguf.GGUFWriter) -> None:
        spoilt.append(min(name for name in tensors if name.startswith("blk.1.") and name.endswith(".weight")))
        change(tensors, spoilt[0])
        for name, values in tensors.items():
            add(writer, name, values)
        write(writer)

    monkeypatch.setattr(gguf.GGUFWriter, "write_header_to_file", write_changed)
    write_converted(tmp_path / "model.gguf", random(FAMILIES[family]))
    assert words.format(spoilt[0]) in refusal(tmp_path)


@pytest.mark.parametrize("kept", [0, 3, 20, 1000, -4000, -40])
@GGUF_FAMILIES
def test_a_gguf_file_that_is_broken_off(family, kept, tmp_path):
    path = tmp_path / "model.gguf"
    write_converted(path, random(FAMILIES[family]))
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(tmp_path).startswith(f"{path}: ")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_number_that_is_none_is_found_where_weights_are_placed(device, tmp_path):
    save(FAMILIES["mixtral"], tmp_path)
    files, config = locate(str(tmp_path)), EngineConfig(model=str(tmp_path))
    decoder = load_model(config, files, torch.device(device), torch.float32)
    name = change(tmp_path, lambda tensors: tensors[middle(tensors)].view(-1)[-1:].fill_(torch.nan))
    read = SafetensorsFolder(tmp_path).read
    shapes = {name: tuple(load_file(tmp_path / "model.safetensors")[name].shape)}
    check_placed(decoder, read, shapes)
    decoder.stack.layers[1].mlp.gate_up[2, 5, 7] = torch.nan
    with pytest.raises(UnsupportedModel, match=f"{name} must hold finite numbers"):
        check_placed(decoder, read, shapes)
    if device == "cuda":
        with pytest.raises(UnsupportedModel, match=f"{name} must hold finite numbers"):
            load_model(config, files, torch.device(device), torch.bfloat16)
