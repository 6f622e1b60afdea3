"""A KV cache of 8 bits: what it does to scores, whose scales it has, and how many tokens it holds."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import make_engine, random_prompts, run, save, shape, tokens_of

from octavo_kernels.eight_bits import LARGEST
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.kv_scales import CACHE_TYPES, measured_scales
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.planning.memory import plan_memory
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.quantizer import int8
from octavo_runtime.quantizer.recipe import Recipe

SHAPE = shape(heads=3, kv_heads=1, head_dim=64, tied=False)
GREEDY = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True, logprobs=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model")
    save(SHAPE, path)
    return path


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_answers_are_those_of_a_whole_cache_nearly(folder: Path, kind: str) -> None:
    """Prompts in chunks, decodes, shared and copied blocks; the best tokens' log probabilities."""
    prompts = random_prompts(40, 90, 7)

    def found(**config: object) -> tuple[list[int], torch.Tensor]:
        engine = make_engine(folder, max_num_batched_tokens=64, **config)
        assert engine.ready.dtype == "float32", "what it computes in, not what it remembers in"
        outputs = run(engine, prompts, GREEDY)
        firsts = [each[0].logprobs[0].logprobs[0] for each in outputs]
        return [tokens_of(each)[0] for each in outputs], torch.tensor(firsts)

    whole, eight = found(), found(kv_cache_dtype=kind)
    assert whole[0] == eight[0]
    difference = (whole[1] - eight[1]).abs().max()
    assert 0 < difference < 0.3


@pytest.mark.parametrize(
    ("of_keys", "of_values"),
    [
        ("k_proj.k_scale", "v_proj.v_scale"),
        ("k_proj.output_scale", "v_proj.output_scale"),
        ("kv_scale", "kv_scale"),
    ],
)
def test_scales_have_several_names(folder: Path, tmp_path: Path, of_keys: str, of_values: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    for layer in (0, 1):
        tensors[f"model.layers.{layer}.self_attn.{of_values}"] = torch.tensor([0.25])
        tensors[f"model.layers.{layer}.self_attn.{of_keys}"] = torch.tensor([0.5])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    asked = EngineConfig.model_validate({"model": str(tmp_path), "kv_cache_dtype": "fp8"})
    decoder = load_model(asked, locate(str(tmp_path)), torch.device("cpu"), torch.float32)
    for layer in decoder.stack.layers:
        assert layer.attention.kv_scales.flatten().tolist() == [0.5, 0.5 if of_keys == of_values else 0.25]


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_a_checkpoints_own_scales_are_read(folder: Path, tmp_path: Path, kind: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors |= {f"model.layers.{layer}.self_attn.{one}_scale": torch.tensor(0.5) for layer in (0, 1) for one in "kv"}
    tensors["model.layers.1.self_attn.v_scale"] = torch.tensor([0.25])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())

    def scales(**config: object) -> list[list[float]] | None:
        asked = EngineConfig.model_validate({"model": str(tmp_path), **config})
        decoder = load_model(asked, locate(str(tmp_path)), torch.device("cpu"), torch.float32)
        found = [layer.attention.kv_scales for layer in decoder.stack.layers]
        return None if found[0] is None else [each.flatten().tolist() for each in found if each is not None]

    larger = 448 / LARGEST[CACHE_TYPES[kind]]
    assert scales() is None
    assert scales(kv_cache_dtype=kind) == [
        pytest.approx([0.5 * larger] * 2),
        pytest.approx([0.5 * larger, 0.25 * larger]),
    ]
    save_file(
        tensors | {"model.layers.0.self_attn.k_scale": torch.tensor([0.0])},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(UnsupportedModel, match=r"0\.self_attn\.k_scale: must be above 0 and at most 1e\+30, got 0$"):
        scales(kv_cache_dtype=kind)


def load_with(folder: Path, out: Path, scales: dict[str, torch.Tensor], kind: str = "fp8") -> Decoder:
    """The model with scales beside its tensors. scales: by their names behind model.layers."""
    tensors = load_file(folder / "model.safetensors") | {f"model.layers.{name}": each for name, each in scales.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    asked = EngineConfig.model_validate({"model": str(out), "kv_cache_dtype": kind})
    return load_model(asked, locate(str(out)), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("kind", ["fp8", "int8"])
@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ([torch.inf], r"must be above 0 and at most 1e\+30, got inf"),
        ([torch.nan], r"must be above 0 and at most 1e\+30, got nan"),
        ([-2.0], r"must be above 0 and at most 1e\+30, got -2"),
        ([3e38], r"must be above 0 and at most 1e\+30, got 3e\+38"),  # int8 would make infinity of it
        ([0.5, 0.5], "must be 1 or 1 numbers, got 2"),
    ],
    ids=str,
)
def test_scales_that_numbers_overflow_with_are_refused(
    folder: Path, tmp_path: Path, scale: list[float], words: str, kind: str
) -> None:
    scales = {f"{layer}.self_attn.{one}_scale": torch.tensor([0.5]) for layer in (0, 1) for one in "kv"}
    with pytest.raises(UnsupportedModel, match=rf"^model\.layers\.1\.self_attn\.v_scale: {words}$"):
        load_with(folder, tmp_path, scales | {"1.self_attn.v_scale": torch.tensor(scale)}, kind)


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (["0.self_attn.k_scale", "0.self_attn.v_scale"], "1.self_attn.k_scale"),
        (["0.self_attn.k_scale", "1.self_attn.k_scale"], "0.self_attn.v_scale"),
        (["1.self_attn.kv_scale"], "0.self_attn.kv_scale"),
        (
            ["0.self_attn.k_proj.k_scale", "0.self_attn.v_proj.v_scale", "1.self_attn.k_scale"],
            "1.self_attn.k_proj.k_scale",
        ),
    ],
)
def test_scales_that_only_some_layers_have_are_refused_where_they_would_be_read(
    folder: Path, tmp_path: Path, there: list[str], missing: str
) -> None:
    scales = dict.fromkeys(there, torch.tensor([0.5]))
    with pytest.raises(
        UnsupportedModel, match=f"have no tensor model.layers.{missing}, where they have others like it"
    ):
        load_with(folder, tmp_path, {name: scale.clone() for name, scale in scales.items()})
    assert load_with(folder, tmp_path, {name: scale.clone() for name, scale in scales.items()}, "auto")


def write_with_scales(folder: Path, out: Path, of_cache: dict[str, object]) -> None:
    """The model with weights in int8, and scales of 0.5 for a KV cache of the kind that its configuration names."""
    layers = {f"model.layers.{layer}." for layer in (0, 1)}
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        matrix = int8.quantize(tensors.pop(name))
        tensors |= {name.removesuffix("weight") + part: tensor for part, tensor in int8.stored(matrix).items()}
    tensors |= {f"{at}self_attn.{one}_scale": torch.tensor(0.5) for at in layers for one in "kv"}
    if not of_cache["symmetric"]:
        zeros = [f"{at}self_attn.{one}_zero_point" for at in layers for one in "kv"]
        tensors |= {name: torch.tensor(3, dtype=torch.int8) for name in zeros}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    quantized = Recipe("int8", 8).configuration() | {"kv_cache_scheme": of_cache}
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": quantized}
    (out / "config.json").write_text(json.dumps(config))


def test_scales_that_are_meant_for_int8_are_stretched_to_fp8(folder: Path, tmp_path: Path) -> None:
    write_with_scales(folder, tmp_path, {"type": "int", "num_bits": 8, "symmetric": True, "dynamic": False})
    for kind, scale in (("int8", 0.5), ("fp8", 0.5 * 127 / 448)):
        asked = EngineConfig.model_validate({"model": str(tmp_path), "kv_cache_dtype": kind})
        decoder = load_model(asked, locate(str(tmp_path)), torch.device("cpu"), torch.float32)
        for layer in decoder.stack.layers:
            assert layer.attention.kv_scales.flatten().tolist() == pytest.approx([scale] * 2)


@pytest.mark.parametrize("of_cache", [{"num_bits": 4, "symmetric": True}, {"num_bits": 8, "symmetric": False}], ids=str)
def test_scales_of_another_kind_are_refused_where_they_would_be_read(
    folder: Path, tmp_path: Path, of_cache: dict[str, object]
) -> None:
    write_with_scales(folder, tmp_path, {"type": "int", **of_cache})

    def loaded(kind: str) -> Decoder:
        asked = EngineConfig.model_validate({"model": str(tmp_path), "kv_cache_dtype": kind})
        return load_model(asked, locate(str(tmp_path)), torch.device("cpu"), torch.float32)

    assert loaded("auto").stack.layers[0].attention.kv_scales is None
    words = rf"kv_cache_scheme must be of 8 bits, float or int, symmetric, .*, got .*{of_cache['num_bits']}"
    for kind in ("fp8", "int8"):
        with pytest.raises(UnsupportedModel, match=words):
            loaded(kind)


def test_measured_scales_are_the_greatest_numbers_of_each_head(folder: Path) -> None:
    config = EngineConfig.model_validate({"model": str(folder)})
    decoder = load_model(config, locate(str(folder)), torch.device("cpu"), torch.float32)
    found = measured_scales(decoder)
    assert found.shape == (2, 2, 1)
    assert (found > 0.01).all()


def test_half_the_bytes_hold_twice_the_tokens() -> None:
    spec = find_spec("Llama-3.1-8B")
    whole, eight = (
        plan_memory(spec, EngineConfig.model_validate({"model": "x", "kv_cache_dtype": kind}), 80 * 2**30)
        for kind in ("auto", "fp8")
    )
    assert eight.kv_bytes_per_token * 2 == whole.kv_bytes_per_token
    assert abs(eight.num_tokens - 2 * whole.num_tokens) <= 32
    assert eight.weight_bytes == whole.weight_bytes
