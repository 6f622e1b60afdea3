"""What is said of a model to those who plan without its files."""

import json
from dataclasses import asdict

import pytest
from typer.testing import CliRunner

from octavo_runtime.cli.app import app
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.families import FAMILIES
from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.planning.builtin_models import BUILTIN_DESCRIPTIONS
from octavo_runtime.planning.description import FoundModel, described, described_as_unsupported, read_description
from octavo_runtime.planning.known_models import BUILTIN_MODELS, KNOWN_MODELS, describe, find_model
from octavo_runtime.planning.memory import plan_memory

TERMINATION_MESSAGE = 4096  # bytes, of all containers of a pod together


def tiny(**more):
    return {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 100,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
    } | more


@pytest.mark.parametrize("name", KNOWN_MODELS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_description_plans_as_the_model_does_and_is_short(name, device):
    found = find_model(name)
    line = described(found)
    assert len(line.encode()) < TERMINATION_MESSAGE / 2
    config = EngineConfig(model="m", max_model_len=1024)
    read = read_description(line)
    plans = [plan_memory(each.spec, config, 80 * 2**30, device, each.packed_bytes) for each in (found, read)]
    assert asdict(plans[0]) == asdict(plans[1])


@pytest.mark.parametrize("architecture", FAMILIES)
def test_no_familys_description_is_long(tmp_path, architecture):
    layers = ["sliding_attention", "full_attention"] * 32
    config = tiny(architectures=[architecture], sliding_window=16, layer_types=layers)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert len(describe(str(tmp_path)).encode()) < TERMINATION_MESSAGE / 2


def test_many_heads_make_no_description_long():
    bloom = spec_from_config({"model_type": "bloom", "n_head": 112, "n_embed": 14_336})
    assert len(described(FoundModel(bloom, 0)).encode()) < TERMINATION_MESSAGE / 2


def test_the_longest_refusal_is_short():
    assert len(describe_config({"architectures": ["X" * 5000]}).encode()) < TERMINATION_MESSAGE


def describe_config(config):
    with pytest.raises(UnsupportedModel) as refused:
        spec_from_config(config)
    return described_as_unsupported(str(refused.value))


def test_what_is_known_of_builtin_models_is_what_their_files_say():
    assert {name: describe(f"builtin://{name}") for name in BUILTIN_MODELS} == BUILTIN_DESCRIPTIONS


def test_a_model_that_is_refused_is_described_by_why(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny(architectures=["MambaForCausalLM"])))
    done = CliRunner().invoke(
        app, ["describe", str(tmp_path), "--output", str(tmp_path / "line")], standalone_mode=False
    )
    assert (done.return_value, done.output) == (0, "")
    with pytest.raises(UnsupportedModel, match=r"architecture must be one of .*, got MambaForCausalLM"):
        read_description((tmp_path / "line").read_text())


@pytest.mark.parametrize("line", ["", "{", '{"packed_bytes": 1}', '{"spec": {"vocab_size": 1}}', '{"other": 1}'])
def test_what_is_no_description_is_told_in_one_line(line):
    with pytest.raises(ValueError, match=r"^a description of a model must [^\n]*$"):
        read_description(line)
