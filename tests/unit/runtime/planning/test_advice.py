"""What is advised where a model does not fit a CPU's memory, and what is chosen where it does not fit a GPU's."""

import pytest

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.planning.advice import cpu_remedies, cpu_squeeze, fill_open, recommend
from octavo_runtime.planning.gpus import GPUS, gpu_of_product
from octavo_runtime.planning.known_models import find_model, find_spec
from octavo_runtime.planning.memory import plan_memory

MIB = 2**20


@pytest.mark.parametrize(
    ("fields", "memory", "settings"),
    [
        ({}, 256 * MIB, {"memory"}),
        ({"max_model_len": 8192}, 1280 * MIB, {"max_model_len", "kv_cache_memory", "memory"}),
        ({"max_model_len": 8192}, 1024 * MIB, {"memory"}),
        ({"kv_cache_memory": "4Gi"}, 2048 * MIB, {"kv_cache_memory", "memory"}),
        (
            {"dtype": "float32", "max_model_len": 2048},
            1216 * MIB,
            {"dtype", "max_model_len", "kv_cache_memory", "memory"},
        ),
    ],
)
def test_every_remedy_on_a_cpu_works(fields, memory, settings):
    found = find_model("builtin://smollm2")
    asked = EngineConfig(model="m", **fields)
    assert plan_memory(found.spec, asked, memory, "cpu", found.packed_bytes).problem is not None
    advised = {advice.setting: advice.value for advice in cpu_remedies(found.spec, asked, memory, found.packed_bytes)}
    assert set(advised) == settings
    for setting, value in advised.items():
        size, changed = memory, asked
        if setting == "memory":
            size = int(value[:-2]) * MIB * (1024 if value.endswith("Gi") else 1)
            assert size > memory
            less = size - 128 * MIB
            plan = plan_memory(found.spec, asked, less, "cpu", found.packed_bytes)
            tight = cpu_squeeze(found.spec, asked, less, found.packed_bytes) is not None
            assert plan.problem is not None or plan.num_tokens < 2048 or tight, "a step less does not do"
        else:
            set_to = None if value == "unset" else value
            changed = EngineConfig.model_validate(asked.model_dump() | {setting: set_to})
        assert plan_memory(found.spec, changed, size, "cpu", found.packed_bytes).problem is None, setting
        assert cpu_squeeze(found.spec, changed, size, found.packed_bytes) is None, setting


@pytest.mark.parametrize(("ranks", "taken"), [(1, 1045 * MIB), (3, 2164 * MIB)])
def test_the_memory_that_is_advised_holds_what_a_busy_server_was_seen_to_take(ranks, taken):
    """`taken`: by all its processes in pages of no file, while 64 requests were answered at once, 2026-12-01."""
    found = find_model("builtin://smollm2")
    asked = EngineConfig(model="m", kv_cache_memory="64Mi", tensor_parallel_size=ranks)
    (advised,) = cpu_remedies(found.spec, asked, 256 * MIB, found.packed_bytes)
    assert advised.setting == "memory"
    assert taken < int(advised.value.removesuffix("Mi")) * MIB < 1.25 * taken


@pytest.mark.parametrize("length", [None, 2048])
def test_what_may_run_is_not_refused_and_told_to_be_tight(length):
    """Whatever length is asked for: the cache, a share of what is free, is the same."""
    found = find_model("builtin://smollm2")
    asked = EngineConfig(model="m", max_model_len=length)
    assert plan_memory(found.spec, asked, 1024 * MIB, "cpu", found.packed_bytes).problem is None
    wanted = cpu_squeeze(found.spec, asked, 1024 * MIB, found.packed_bytes)
    assert wanted is not None
    assert (wanted.setting, wanted.value) == ("memory", "1152Mi")
    assert cpu_squeeze(found.spec, asked, 1152 * MIB, found.packed_bytes) is None


def test_a_cache_that_is_large_enough_is_not_told_to_be_tight_where_the_processes_have_room():
    found = find_model("builtin://smollm2")
    asked = EngineConfig(model="m", max_model_len=8192)
    assert cpu_squeeze(found.spec, asked, 1536 * MIB, found.packed_bytes) is None


def test_the_tokens_that_are_advised_are_those_that_the_engine_will_have():
    found = find_model("builtin://smollm2")
    asked = EngineConfig(model="m")
    (advised,) = cpu_remedies(found.spec, asked, 256 * MIB, found.packed_bytes)
    plan = plan_memory(found.spec, asked, int(advised.value.removesuffix("Mi")) * MIB, "cpu", found.packed_bytes)
    assert f"{plan.num_tokens:,} tokens" in advised.why


def test_what_is_left_open_is_chosen_so_that_the_model_fits():
    spec, gpu = find_spec("gemma-2-9b"), GPUS["l4"]

    def chosen(**fields):
        return fill_open(spec, EngineConfig(model="m", **fields), gpu, 1)

    assert plan_memory(spec, EngineConfig(model="m"), gpu.memory).problem is not None
    changes = chosen()
    assert plan_memory(spec, EngineConfig(model="m", **changes), gpu.memory).problem is None
    for name, value in changes.items():
        assert name not in chosen(**{name: EngineConfig(model="m").model_dump()[name] or 8192}), f"{name} {value}"


def test_nothing_is_chosen_where_it_fits_or_nothing_helps():
    small, config = find_spec("SmolLM2-135M"), EngineConfig(model="m")
    assert fill_open(small, config, GPUS["l4"], 8) == {}
    assert fill_open(small, config, GPUS["t4"], 8) == {}, "its kernels do not run there"
    assert fill_open(find_spec("Llama-3.1-70B"), config, GPUS["l4"], 2) == {}
    both = {"quantization": "fp8", "tensor_parallel_size": 8}
    assert fill_open(find_spec("Llama-3.1-70B"), config, GPUS["l4"], 8) == both


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA-A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA-A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA-A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA-H100-80GB-HBM3", "h100-80gb"),
        ("NVIDIA-H200", "h200-141gb"),
        ("NVIDIA-L40S", "l40s"),
        ("NVIDIA-L4", "l4"),
        ("Tesla-T4", "t4"),
        ("Tesla-V100-SXM2-16GB", "v100-16gb"),
        ("NVIDIA-GeForce-RTX-4090", "rtx-4090"),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", None),
        ("NVIDIA-L4-SHARED", None),
        ("NVIDIA-H100-NVL", None),
        ("Tesla-V100", None),
        ("", None),
    ],
)
def test_gpus_by_the_label_of_their_nodes(product, name):
    found = gpu_of_product(product)
    assert (found and found.name) == name


@pytest.mark.parametrize(("said", "most"), [(None, "1"), ({"method": "ngram", "num_speculative_tokens": 4}, "2")])
def test_the_advised_number_of_sequences_leaves_room_for_guesses(said, most):
    asked = EngineConfig(model="m", kv_cache_memory="128Mi", max_model_len=4096, speculative_config=said)
    rows = recommend(find_spec("builtin://smollm2"), asked, GPUS["l4"], "latency", 4096)
    assert {row.setting: row.value for row in rows}["max_num_seqs"] == most
