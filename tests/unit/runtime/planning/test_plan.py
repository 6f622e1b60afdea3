"""The memory planner: its arithmetic against known models, and what `octavo plan` says."""

import json
from dataclasses import replace

import pytest
import torch
import typer.testing
from hypothesis import given
from hypothesis import strategies as st
from sequences import make_scheduler, make_sequence, run_step

from octavo_runtime.cli.app import app
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Group, Link
from octavo_runtime.layers.linear import prepacks
from octavo_runtime.layers.rotary import RotaryEmbedding
from octavo_runtime.layers.routing import Routing
from octavo_runtime.models.families.gemma2 import SANDWICHED
from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.selection import ModelNotFound
from octavo_runtime.models.loading.weights import build_decoder
from octavo_runtime.models.served import as_served
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import ExpertLayers
from octavo_runtime.models.stages import stage_of
from octavo_runtime.models.tensor_names import TensorNames
from octavo_runtime.planning.advice import recommend, remedies, tuned_config
from octavo_runtime.planning.gpus import GPUS, UnknownGpu, find_gpu, parse_memory
from octavo_runtime.planning.known_models import KNOWN_MODELS, find_model, find_spec, serving_name
from octavo_runtime.planning.kv_cache import kv_bytes_per_block, kv_bytes_per_token, num_blocks, swap_bytes
from octavo_runtime.planning.limits import DoesNotFit
from octavo_runtime.planning.memory import layers_of_stages, plan_memory, shares
from octavo_runtime.planning.parameters import active_parameter_count, parameter_count, weight_bytes
from octavo_runtime.planning.report import as_data, make_report
from octavo_runtime.planning.reserves import CPU_PROCESS_BYTES, reserve_bytes
from octavo_runtime.planning.roofline import decode_cost, prefill_cost
from octavo_runtime.quantization.scheme import Scheme
from octavo_runtime.worker.device.cpu import cpu_executor

LLAMA_13B = find_spec("Llama-2-13b")
GB, GIB = 10**9, 2**30
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
WINDOWED = TINY | {
    "architectures": ["Gemma3ForCausalLM"],
    "num_hidden_layers": 13,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "sliding_window": 40,
}


def config(**fields):
    return EngineConfig(model="m", **fields)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("Llama-2-7b", 6_738_415_616),
        ("Llama-2-13b", 13_015_864_320),
        ("Llama-2-70b", 68_976_648_192),
        ("Llama-3.1-8B", 8_030_261_248),
        ("Llama-3.1-70B", 70_553_706_496),
        ("Llama-3.2-1B", 1_235_814_400),
        ("Llama-3.2-3B", 3_212_749_824),
        ("Llama-3-8B", 8_030_261_248),
        ("meta-llama/Meta-Llama-3-70B-Instruct", 70_553_706_496),
        ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496),
        ("Llama-3.1-405B", 405_853_388_800),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 8_030_261_248),
        ("Mistral-7B-Instruct-v0.2", 7_241_732_096),
        ("Mistral-7B-v0.3", 7_248_023_552),
        ("mistralai/Mistral-Nemo-Instruct-2407", 12_247_782_400),
        ("mistralai/Mistral-Small-24B-Instruct-2501", 23_572_403_200),
        ("TinyLlama-1.1B", 1_100_048_384),
        ("SmolLM2-135M", 134_515_008),
        ("SmolLM2-360M", 361_821_120),
        ("SmolLM2-1.7B", 1_711_376_384),
        ("google/gemma-2-2b-it", 2_614_341_888),
        ("gemma-2-9b", 9_241_705_984),
        ("gemma-2-27b", 27_227_128_320),
        ("gemma-3-270m-it", 268_098_176),
        ("gemma-3-1b", 999_885_952),
        # Of the text alone, in whose vocabulary there are 64 words for pictures.
        ("gemma-3-4b-it", 3_880_099_328 + 64 * 2560),
        ("gemma-3-12b-it", 11_765_788_416 + 64 * 3840),
        ("gemma-3-27b-it", 27_009_002_240 + 64 * 5376),
        ("Phi-3-mini-4k-instruct", 3_821_079_552),
        ("microsoft/phi-4", 14_659_507_200),
        ("OLMo-2-1124-7B-Instruct", 7_298_617_344),
        ("ERNIE-4.5-0.3B", 360_748_032),
        ("CohereForAI/c4ai-command-r-v01", 34_980_831_232),
        ("c4ai-command-r7b-12-2024", 8_028_033_024),
        ("bigcode/starcoder2-3b", 3_030_371_328),
        ("stablelm-2-1_6b", 1_644_515_328),
        ("openai-community/gpt2", 124_439_808),
        ("facebook/opt-125m", 125_239_296),
        ("facebook/opt-350m", 331_196_416),
        ("bigscience/bloom-560m", 559_214_592),
        ("facebook/opt-6.7b", 6_658_473_984),
        ("EleutherAI/pythia-6.9b", 6_857_302_016),
        ("tiiuae/falcon-7b", 6_921_720_704),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46_702_792_704),
        ("Qwen3-30B-A3B", 30_532_122_624),
        ("Qwen/Qwen3-235B-A22B", 235_093_634_560),
        ("Qwen1.5-MoE-A2.7B-Chat", 14_315_784_192),
        ("allenai/OLMoE-1B-7B-0924", 6_919_161_856),
        ("granite-3.1-1b-a400m-instruct", 1_334_628_352),
        ("Phi-3.5-MoE-instruct", 41_873_153_344),
        ("ERNIE-4.5-21B-A3B-PT", 21_825_437_888),
        ("openai/gpt-oss-20b", 20_914_757_184),
        ("openai/gpt-oss-120b", 116_829_156_672),
        ("deepseek-ai/DeepSeek-V2-Lite-Chat", 15_706_484_224),
        ("deepseek-ai/DeepSeek-V2", 235_741_434_880),
        ("deepseek-ai/DeepSeek-R1", 671_026_419_200),
        ("moonshotai/Kimi-K2-Instruct", 1_026_408_232_448),
    ],
)
def test_parameters_are_those_that_the_models_are_published_with(model, parameters):
    assert parameter_count(find_spec(model)) == parameters


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_weight_bytes_are_those_that_loading_makes(tied, biased):
    small = replace(
        find_spec("SmolLM2-135M"),
        num_layers=2,
        hidden_size=24,
        intermediate_size=40,
        vocab_size=50,
        head_dim=16,
        tie_embeddings=tied,
        qkv_bias=biased,
        output_bias=biased,
        qk_norm=biased,
        qk_norm_spans_heads=tied,
        mlp_bias=biased,
        tensors=SANDWICHED if biased else TensorNames(gate_up=("mlp.c_fc",)),
        norm="layer" if tied else "rms",
        norm_bias=tied,
        is_gated=biased,
    )

    check_weight_bytes(small)


@pytest.mark.parametrize(("shared", "gated"), [(0, False), (24, False), (24, True)])
def test_weight_bytes_of_experts_are_those_that_loading_makes(shared, gated):
    small = replace(
        find_spec("Qwen3-30B-A3B"),
        num_layers=3,
        hidden_size=24,
        intermediate_size=40,
        vocab_size=50,
        head_dim=16,
        head_bias=gated,
        tie_embeddings=gated,
        experts=ExpertLayers(frozenset({0, 2}), Routing(5, 2, has_correction=gated), 8, shared, gated),
    )
    check_weight_bytes(small)
    held, active = parameter_count(small), active_parameter_count(small)
    assert held - active == 2 * (5 - 2) * 3 * 8 * 24


def check_weight_bytes(spec, group=None, link=None):
    def loaded(device, dtype):
        read = lambda _, shape: torch.zeros(shape)  # noqa: E731
        return build_decoder(spec, read, torch.device(device), dtype, group, link).num_bytes

    assert loaded("meta", torch.bfloat16) == weight_bytes(spec, 2), "as on a GPU"
    assert loaded("cpu", torch.float32) == weight_bytes(spec, 4, "cpu")
    assert loaded("cpu", torch.bfloat16) in (weight_bytes(spec, 2, "cpu"), weight_bytes(spec, 2))


@pytest.mark.parametrize(("tied", "rank", "whole_experts"), [(True, 3, False), (False, 3, False), (False, 0, True)])
def test_weight_bytes_of_a_share_are_those_that_loading_makes(tied, rank, whole_experts):
    small = replace(
        find_spec("Qwen3-30B-A3B"),
        num_layers=3,
        hidden_size=24,
        intermediate_size=40,
        vocab_size=52,
        head_dim=16,
        tie_embeddings=tied,
        experts=ExpertLayers(frozenset({0, 2}), Routing(5, 2), 8, 24),
    )
    share = shard(small, 4, rank, whole_experts=whole_experts)
    check_weight_bytes(share, Group(rank, 4))
    for stage, link in ((range(1), Link(None, 1)), (range(1, 2), Link(0, 2)), (range(1, 3), Link(0, None))):
        check_weight_bytes(stage_of(share, stage), Group(rank, 4), link)
        check_weight_bytes(stage_of(small, stage), None, link)


def test_a_pipeline_is_planned_by_its_stage_with_the_least_room():
    spec = find_spec("gpt-oss-120b")
    two = plan_memory(spec, config(pipeline_parallel_size=2), 80 * GIB)
    four = plan_memory(spec, config(pipeline_parallel_size=2, tensor_parallel_size=2), 80 * GIB)
    assert two.problem is four.problem is None
    first, last = layers_of_stages(spec, config(pipeline_parallel_size=2), "cuda")
    assert abs(len(first) - len(last)) <= 2
    whole = weight_bytes(spec, 2)
    assert 0.49 * whole < two.weight_bytes < 0.55 * whole
    assert four.weight_bytes < 0.55 * two.weight_bytes
    assert two.kv_bytes_per_token in [len(each) * 8 * 64 * 2 * 2 for each in (first, last)]
    assert two.parameters == parameter_count(spec)


def test_more_stages_than_layers_are_refused_by_name():
    with pytest.raises(DoesNotFit, match="pipeline_parallel_size: must be at most 40, the model's layers, got 41"):
        plan_memory(LLAMA_13B, config(pipeline_parallel_size=41), 80 * GIB)


@pytest.mark.parametrize(("memory", "before"), [(80 * GB, 54), (80 * GIB, 61)])
def test_llama_2_13b_at_1024_tokens_by_the_rule_of_thumb(memory, before):
    """40 layers of 40 heads: 819,200 bytes of KV a token. With 32 layers of 32 heads it would seem to be 85."""
    result = plan_memory(LLAMA_13B, config(dtype="float16"), memory)
    assert result.kv_bytes_per_token == 40 * 40 * 128 * 2 * 2
    assert result.num_sequences_before_reserves(1024) == before
    assert 0.85 * before < result.num_sequences(1024) < before


def test_all_memory_is_accounted_for():
    result = plan_memory(LLAMA_13B, config(), 80 * GIB)
    parts = result.weight_bytes + result.context_bytes + result.activation_bytes + result.graph_bytes
    assert parts + result.kv_cache_bytes == result.budget == int(80 * GIB * 0.9)
    assert result.activation_bytes + result.graph_bytes == reserve_bytes(LLAMA_13B, config())
    assert result.num_blocks == result.kv_cache_bytes // kv_bytes_per_block(LLAMA_13B, 16, 2)


@given(memory=st.integers(GIB, 200 * GIB), length=st.integers(1, 4096), block_size=st.sampled_from([8, 16, 64]))
def test_what_is_promised_fits(memory, length, block_size):
    result = plan_memory(LLAMA_13B, config(block_size=block_size), memory)
    sequences = result.num_sequences(length)
    assert sequences * -(-length // block_size) <= result.num_blocks
    assert result.num_blocks * block_size * result.kv_bytes_per_token <= max(result.kv_cache_bytes, 0)
    assert sequences <= result.num_sequences_before_reserves(length)
    assert (result.problem is None) == (result.max_model_len > 0)


def test_cpu_cache_is_a_gibibyte_or_a_quarter_of_what_is_left():
    small = find_spec("SmolLM2-135M")
    assert plan_memory(small, config(), 16 * GIB, "cpu").kv_cache_bytes == GIB
    left = 2 * GIB - CPU_PROCESS_BYTES - weight_bytes(small, 2, "cpu")
    assert plan_memory(small, config(), 2 * GIB, "cpu").kv_cache_bytes == left // 4
    assert plan_memory(small, config(kv_cache_memory="100Mi"), 2 * GIB, "cpu").num_blocks == 100 * 2**20 // 368_640


@pytest.mark.parametrize(
    "fields",
    [
        {"kv_cache_memory": "1Mi"},
        {"kv_cache_memory": "3M", "dtype": "float32", "block_size": 32},
        {"kv_cache_memory": "2Mi", "max_model_len": 64, "swap_space": "1Mi"},
    ],
)
@pytest.mark.parametrize("windows", [False, True])
def test_engine_settles_on_what_is_planned(tmp_path, fields, windows):
    (tmp_path / "config.json").write_text(json.dumps(WINDOWED if windows else TINY))
    asked = EngineConfig(model=str(tmp_path), device="cpu", load_format="dummy", **fields)
    ready = cpu_executor(asked, locate(str(tmp_path))).ready
    planned = plan_memory(find_spec(str(tmp_path)), asked, 64 * 2**20 + CPU_PROCESS_BYTES, "cpu")
    assert (ready.num_blocks, ready.max_model_len) == (planned.num_blocks, planned.max_model_len)
    swap = swap_bytes(asked, "cpu", planned.kv_cache_bytes, 64 * GIB)
    assert ready.num_host_blocks == num_blocks(find_spec(str(tmp_path)), asked, swap)
    if asked.swap_space is not None:
        assert ready.num_host_blocks == planned.num_host_blocks


def test_layers_with_a_window_hold_what_is_planned():
    """As many sequences as are planned run side by side, and take the blocks that they should."""
    model = find_spec("google/gemma-3-12b-it")
    asked = config(kv_cache_memory="4Gi", max_num_batched_tokens=1024, max_num_seqs=64)
    planned = plan_memory(model, asked, 80 * GIB)
    length = 3000
    count = planned.num_sequences(length)
    assert count > 2 * (planned.num_tokens // length)
    scheduler = make_scheduler(blocks=planned.num_blocks, block_size=16, seqs=64, budget=1024, windows=planned.windows)
    for arrival in range(count):
        scheduler.add(make_sequence(arrival, length - 5 * count, max_tokens=1000))
    while scheduler.waiting or scheduler.running[0].known < length:
        run_step(scheduler)
    assert scheduler.preemptions.total == 0
    held = sum(len(table.blocks) for table in scheduler.running[0].tables)
    assert held * planned.block_bytes == pytest.approx(planned.sequence_bytes(length), rel=0.02)


def test_the_engine_refuses_a_cache_beyond_what_is_free_as_planned(tmp_path, monkeypatch):
    """Before a byte of it is touched: the machine's OOM killer would decide else."""
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    free = 100_000_000
    monkeypatch.setattr("octavo_runtime.worker.device.cpu.free_host_memory", lambda: free)
    asked = EngineConfig(model=str(tmp_path), device="cpu", load_format="dummy", kv_cache_memory="512Mi")
    with pytest.raises(DoesNotFit) as refused:
        cpu_executor(asked, locate(str(tmp_path)))
    assert str(refused.value).startswith(
        "kv_cache_memory: must be at most 0.10 GB, which weights and reserves leave of"
    )
    swap = asked.model_copy(update={"kv_cache_memory": "1Mi", "swap_space": "512Mi"})
    with pytest.raises(DoesNotFit, match=r"^swap_space: must be at most 0\.10 GB, the host memory left"):
        cpu_executor(swap, locate(str(tmp_path)))


@pytest.mark.parametrize(
    ("fields", "device", "cache", "free", "expected"),
    [
        ({}, "cuda", 50 * GIB, 16 * GIB, 2 * GIB),
        ({}, "cuda", 50 * GIB, 640 * GIB, 4 * GIB),
        ({}, "cpu", GIB, 16 * GIB, GIB // 2),
        ({}, "cpu", GIB, 2 * GIB, GIB // 4),
        ({"swap_space": "3Gi"}, "cuda", 50 * GIB, 4 * GIB, 3 * GIB),
        ({"swap_space": "3Gi", "preemption_mode": "recompute"}, "cuda", 50 * GIB, 16 * GIB, 0),
    ],
)
def test_swap_space(fields, device, cache, free, expected):
    assert swap_bytes(config(**fields), device, cache, free) == expected


@pytest.mark.parametrize(
    ("fields", "memory", "words"),
    [
        ({}, 24 * GB, "memory: must be at least 30.74 GB for weights and reserves, got 21.60 GB to use"),
        ({"kv_cache_memory": "60Gi"}, 80 * GB, "kv_cache_memory: must be at most 49.26 GB"),
        ({"max_model_len": 4096}, 36 * GB, "max_model_len: must be at most 2016"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(fields, memory, words):
    problem = plan_memory(LLAMA_13B, config(**fields), memory).problem
    assert words in problem
    assert "\n" not in problem


def test_more_than_the_models_limit_is_no_question_of_memory():
    with pytest.raises(DoesNotFit, match="max_model_len: must be at most 4096, the model's own limit, got 8192"):
        plan_memory(LLAMA_13B, config(max_model_len=8192), 80 * GIB)


@pytest.mark.parametrize(
    "model",
    [
        "Llama-3.1-8B",
        "llama-3.1-8b-instruct",
        "meta-llama/Llama-3.1-8B-Instruct",
        "hf://meta-llama/Meta-Llama-3.1-8B-Instruct@main",
        "hf://somebody/Llama-3.1-8B",
    ],
)
def test_known_models_are_found_by_any_form_of_their_name(model):
    assert find_spec(model) == find_spec("meta-llama/Llama-3.1-8B")
    assert serving_name(model).startswith("hf://")


def test_unknown_models_and_gpus_are_answered_with_what_there_is():
    with pytest.raises(ModelNotFound, match=r"builtin://smollm2, or one of meta-llama/Llama-2-7b-hf, .*, got 'bloom'"):
        find_spec("bloom")
    assert all(find_spec(name) for name in KNOWN_MODELS)
    with pytest.raises(UnknownGpu, match=r"gpu: must be one of t4, .*h100-80gb, .*, got 'h1000'"):
        find_gpu("h1000", "")
    assert len(KNOWN_MODELS) == len({model.lower() for model in KNOWN_MODELS})


def test_a_sliding_window_bounds_no_request():
    assert find_spec("mistralai/Mistral-7B-v0.1").max_position == 32_768


def test_models_on_this_machine_are_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    assert find_spec(str(tmp_path)).num_layers == 2
    assert find_spec(f"file://{tmp_path}").vocab_size == 100


def test_a_cpu_holds_packed_weights_too():
    """4-bit weights lie packed beside those of 16 bits, but not where all is float32."""
    found = find_model("builtin://smollm2")
    small, bf16, float32 = found.spec, config(), config(dtype="float32")
    held = plan_memory(small, bf16, 16 * GIB, "cpu", found.packed_bytes)
    assert held.weight_bytes == weight_bytes(small, 2, "cpu") + found.packed_bytes
    # 5 bits a weight in the layers, scales and minimums included, and 8.5 in the head, which is the embedding.
    head = small.vocab_size * small.hidden_size
    layers = parameter_count(small) - head - (2 * small.num_layers + 1) * small.hidden_size
    assert found.packed_bytes == layers * 5 // 8 + head * 17 // 16
    assert plan_memory(small, float32, 16 * GIB, "cpu", found.packed_bytes).weight_bytes == weight_bytes(small, 4)
    assert plan_memory(small, bf16, 16 * GIB, "cuda", found.packed_bytes).weight_bytes == weight_bytes(small, 2)


@pytest.mark.slow
def test_a_cpu_holds_what_is_planned():
    asked = EngineConfig(model="builtin://smollm2", device="cpu", kv_cache_memory="4Mi", swap_space="2Mi")
    found = find_model(asked.model)
    ready = cpu_executor(asked, locate(asked.model)).ready
    planned = plan_memory(found.spec, asked, 16 * GIB, "cpu", found.packed_bytes)
    if prepacks(torch.bfloat16):
        assert ready.weight_bytes == pytest.approx(planned.weight_bytes, rel=0.01)
    else:  # the CPU has no products of 16 bits, and needs the packed weights alone
        assert found.packed_bytes < ready.weight_bytes < planned.weight_bytes


def test_blocks_of_preempted_requests_are_planned():
    small = find_spec("SmolLM2-135M")
    assert plan_memory(small, config(), 16 * GIB, "cpu").swap_bytes == GIB // 2
    assert plan_memory(small, config(), 16 * GIB, "cpu").num_host_blocks == GIB // 2 // 368_640
    assert plan_memory(small, config(preemption_mode="recompute"), 16 * GIB, "cpu").num_host_blocks == 0
    assert plan_memory(small, config(swap_space="3Gi"), 80 * GIB).swap_bytes == 3 * GIB
    problem = plan_memory(small, config(swap_space="15Gi"), 16 * GIB, "cpu").problem
    assert problem.startswith("swap_space: must be at most 15.38 GB, the host memory left, got 15Gi")


@pytest.mark.parametrize("gpu", ["t4", "v100-16gb", "v100-32gb"])
def test_nothing_fits_where_the_kernels_cannot_run(gpu):
    fields = {"gpu_memory": "", "lengths": "", "workload": "latency", "costs": False}
    report = make_report(EngineConfig(model="SmolLM2-135M"), gpu=gpu, **fields)
    data = as_data(report)
    assert data["fits"] is False
    assert "gpu: must have compute capability 8.0 or newer" in data["memory"]["problem"]
    assert (data["command"], data["recommendation"]) == (None, [])
    assert [remedy["setting"] for remedy in data["remedies"]] == ["gpu"], "less memory would not help"
    assert GPUS[data["remedies"][0]["value"]].is_supported


def test_builtin_gguf_is_read_without_its_weights():
    found = replace(find_spec("builtin://smollm2"), quantization=None)
    assert replace(found, rms_norm_eps=0, eos_token_ids=(), rope_theta=0) == replace(
        find_spec("SmolLM2-135M"), rms_norm_eps=0, eos_token_ids=(), rope_theta=0
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("80GB", 80 * GB), ("80GiB", 80 * GIB), ("80Gi", 80 * GIB), ("1.5TB", 1500 * GB), ("512MiB", 2**29)],
)
def test_amounts_of_memory(text, size):
    assert parse_memory(text) == size
    assert find_gpu("h100-80gb", text).memory == size


@pytest.mark.parametrize("text", ["80", "lots", "0GB", "-3GB", "80 giga", "1" + "0" * 20 + "TB"])
def test_bad_amounts_of_memory(text):
    with pytest.raises(UnknownGpu, match="gpu_memory: must be an amount such as 80GB"):
        parse_memory(text)


@pytest.mark.parametrize("fields", [{}, {"dtype": "float32"}, {"kv_cache_memory": "90Gi"}, {"max_model_len": 4096}])
@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_every_supported_remedy_works(gpu, fields):
    asked = config(**fields)
    if plan_memory(LLAMA_13B, asked, gpu.memory).problem is None:
        return
    for advice in remedies(LLAMA_13B, asked, gpu):
        if not advice.supported:
            assert advice.setting == "quantization"
        elif advice.setting == "gpu":
            assert plan_memory(LLAMA_13B, asked, GPUS[advice.value].memory).problem is None
        else:
            value = None if advice.value == "unset" else advice.value
            changed = EngineConfig.model_validate(asked.model_dump() | {advice.setting: value})
            assert plan_memory(LLAMA_13B, changed, gpu.memory).problem is None


@pytest.mark.parametrize("workload", ["throughput", "latency"])
@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_recommendations_hold(gpu, workload):
    rows = {row.setting: row for row in recommend(LLAMA_13B, config(), gpu, workload, 1024)}
    tuned = tuned_config(config(), workload)
    cards = rows["tensor_parallel_size"]
    assert cards.supported
    assert (cards.value == "1") == (plan_memory(LLAMA_13B, tuned, gpu.memory).problem is None)
    shared = tuned.model_copy(update={"tensor_parallel_size": int(cards.value)})
    result = plan_memory(LLAMA_13B, shared, gpu.memory)
    share = result.weight_bytes / gpu.memory
    assert ("model" in rows) == (share > 1.2), "a checkpoint in 4 bits is no setting"
    assert "model" in rows or (rows["quantization"].value == "auto") == (share <= 0.6)
    if result.problem is None:
        assert int(rows["max_num_seqs"].value) <= max(result.num_sequences(1024), 1)
        accepted = {
            name: row.value for name, row in rows.items() if name in EngineConfig.model_fields and row.supported
        }
        assert plan_memory(LLAMA_13B, config(**accepted), gpu.memory).problem is None


def test_what_is_set_stays_in_a_recommendation():
    rows = {row.setting: row for row in recommend(LLAMA_13B, config(max_num_seqs=7), GPUS["b200"], "throughput", 1024)}
    assert rows["max_num_seqs"].value == "7"
    assert rows["max_num_seqs"].why.startswith("as set")
    assert tuned_config(config(preset="large-gpu"), "throughput").max_num_seqs == 512


def test_decode_is_bound_by_memory_and_a_long_prompt_by_arithmetic():
    spec, gpu = find_spec("Llama-3.1-8B"), GPUS["h200-141gb"]
    one = decode_cost(spec, gpu, 1, 128)
    head = spec.vocab_size * spec.hidden_size
    assert one.bound == "memory"
    assert one.memory_seconds * gpu.bandwidth == pytest.approx(
        2 * (parameter_count(spec) - head) + 129 * kv_bytes_per_token(spec, 2)
    )
    prompt = prefill_cost(spec, gpu, 4096)
    assert prompt.bound == "compute"
    inner = parameter_count(spec) - 2 * head - (2 * spec.num_layers + 1) * spec.hidden_size  # without norms
    pairs = 4096 * 4097 // 2
    expected = 2 * (4096 * inner + head) + 4 * pairs * spec.num_layers * spec.hidden_size
    assert prompt.compute_seconds * gpu.half_flops == pytest.approx(expected)


@pytest.mark.parametrize("length", [1, 40, 41, 300])
def test_layers_with_a_window_read_and_compute_within_it(length):
    spec, gpu = spec_from_config(WINDOWED), GPUS["h200-141gb"]
    whole = replace(spec, windowed_layers=frozenset())
    slides = [layer % 6 != 5 for layer in range(spec.num_layers)]
    seen = [[min(newest, 40 if slid else newest) for newest in range(1, length + 1)] for slid in slides]
    saved = sum(length - each[-1] for each in seen)
    a_token, pair = 2 * 2 * 16 * 2, 4 * spec.num_heads * 16
    plain, found = (decode_cost(each, gpu, 3, length - 1) for each in (whole, spec))
    assert (plain.memory_seconds - found.memory_seconds) * gpu.bandwidth == pytest.approx(3 * saved * a_token)
    assert (plain.compute_seconds - found.compute_seconds) * gpu.half_flops == pytest.approx(3 * saved * pair)
    plain, found = (prefill_cost(each, gpu, length) for each in (whole, spec))
    assert plain.memory_seconds == found.memory_seconds, "the keys and values of all tokens are written"
    saved = sum(newest - each[newest - 1] for each in seen for newest in range(1, length + 1))
    assert (plain.compute_seconds - found.compute_seconds) * gpu.half_flops == pytest.approx(saved * pair)


def test_a_step_reads_latents_and_not_what_they_are_expanded_to():
    spec, gpu = find_spec("DeepSeek-V2-Lite"), GPUS["h200-141gb"]
    near, far = (decode_cost(spec, gpu, 2, context) for context in (1000, 3000))
    read = (far.memory_seconds - near.memory_seconds) * gpu.bandwidth
    assert read == pytest.approx(2 * 2000 * spec.num_layers * (512 + 64) * 2)
    computed = (far.compute_seconds - near.compute_seconds) * gpu.half_flops
    assert computed == pytest.approx(2 * 2000 * spec.num_layers * 2 * spec.num_heads * (512 + 64 + 512))


def test_costs_are_those_of_the_weights_and_the_cache_as_they_are_served():
    def costs(**fields):
        settings = EngineConfig(model="Llama-3.1-8B", **fields)
        report = make_report(settings, gpu="l4", gpu_memory="", lengths="4096", workload="", costs=True)
        [one, *_] = report.decode_costs
        return one.memory_seconds * report.gpu.bandwidth

    spec = find_spec("Llama-3.1-8B")
    cached = 4097 * kv_bytes_per_token(spec, 1)
    assert costs() - costs(kv_cache_dtype="fp8") == pytest.approx(cached)
    served = as_served(spec, config(quantization="fp8"))
    assert costs() - costs(quantization="fp8") == pytest.approx(weight_bytes(spec, 2) - weight_bytes(served, 2))


def test_a_token_computes_with_the_experts_that_it_chooses_and_few_tokens_read_few():
    spec, gpu = find_spec("Mixtral-8x7B-v0.1"), GPUS["h200-141gb"]
    head = spec.vocab_size * spec.hidden_size
    norms = (2 * spec.num_layers + 1) * spec.hidden_size
    inner = active_parameter_count(spec) - 2 * head - norms
    one, many = decode_cost(spec, gpu, 1, 0), decode_cost(spec, gpu, 256, 0)
    pairs = spec.num_layers * spec.num_heads * spec.head_dim
    assert one.compute_seconds * gpu.half_flops == pytest.approx(2 * (inner + head) + 4 * pairs)
    routers = spec.num_layers * 8 * spec.hidden_size * 2  # in float32
    kv = kv_bytes_per_token(spec, 2)
    read = 2 * (active_parameter_count(spec) - head) + routers + kv
    assert one.memory_seconds * gpu.bandwidth == pytest.approx(read)
    assert many.memory_seconds * gpu.bandwidth == pytest.approx(weight_bytes(spec, 2) - 2 * head + 256 * kv)


def test_experts_of_a_checkpoint_in_fp8_take_and_read_a_byte_a_number():
    spec, gpu = find_spec("DeepSeek-R1"), GPUS["h200-141gb"]
    assert parameter_count(spec) < weight_bytes(spec, 2) < 1.01 * parameter_count(spec)
    in_16_bits = weight_bytes(replace(spec, quantization=None), 2)
    assert in_16_bits == pytest.approx(2 * parameter_count(spec), rel=0.01)
    read = decode_cost(spec, gpu, 1, 0).memory_seconds * gpu.bandwidth
    assert read == pytest.approx(active_parameter_count(spec), rel=0.05)
    [share] = shares(spec, config(tensor_parallel_size=8, enable_expert_parallel=True), "cuda")
    assert weight_bytes(share, 2) < 0.15 * weight_bytes(spec, 2)


def test_the_plan_says_how_many_parameters_a_token_meets():
    arguments = ["plan", "Mixtral-8x7B-v0.1", "--gpu", "h200-141gb"]
    result = typer.testing.CliRunner().invoke(app, arguments, standalone_mode=False, env={"COLUMNS": "160"})
    assert "46,702,792,704 parameters (12,879,925,248 for each token) x 2 bytes" in result.stdout
    assert "in float32" not in result.stdout, "a few megabytes of routers"
    data = typer.testing.CliRunner().invoke(app, [*arguments, "--json"], standalone_mode=False)
    assert json.loads(data.stdout)["memory"]["active_parameters"] == 12_879_925_248


def test_the_plan_counts_packed_experts_in_their_4_bits():
    arguments = ["plan", "openai/gpt-oss-20b", "--gpu", "l4"]
    result = typer.testing.CliRunner().invoke(app, arguments, standalone_mode=False, env={"COLUMNS": "160"})
    assert "13.77" in result.stdout
    assert "x 2 bytes, 28.06 GB less for weights in fewer bits" in result.stdout
    assert result.return_value == 0


def test_a_checkpoint_may_have_its_experts_alone_in_few_bits(tmp_path):
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*gate$"],
    }
    experts = {"moe_intermediate_size": 64, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}
    fields = TINY | experts | {"architectures": ["Qwen3MoeForCausalLM"], "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(fields | {"quantization_config": quantization}))
    spec = find_spec(str(tmp_path))
    assert reserve_bytes(spec, config()) == reserve_bytes(replace(spec, quantization=None), config())
    arguments = ["plan", str(tmp_path), "--gpu-memory", "80GB"]
    assert typer.testing.CliRunner().invoke(app, arguments, standalone_mode=False).return_value == 0


def test_report_as_data():
    fields = {"gpu": "l4", "gpu_memory": "", "lengths": "1024", "workload": "latency", "costs": True}
    report = make_report(EngineConfig(model="Llama-3.1-8B"), **fields)
    data = json.loads(json.dumps(as_data(report)))
    assert data["fits"] is True
    assert data["capacities"] == [{"length": 1024, "sequences": 7, "before_reserves": 42}]
    assert data["command"] == "octavo serve hf://meta-llama/Llama-3.1-8B --preset latency --quantization fp8"
    assert [cost["sequences"] for cost in data["costs"]["decode"]] == [1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--gpu-memory", "80GB", "--dtype", "float16", "--lengths", "1024"], 0, ["819,200 bytes", "54", "Fits"]),
        (["--gpu", "l4"], 1, ["Does not fit", "tensor_parallel_size"]),
        (["--gpu", "l4", "--tensor-parallel-size", "2"], 0, ["each of 2 devices", "Fits"]),
        (["--gpu", "l4", "--workload", "latency"], 1, ["--preset latency --tensor-parallel-size 2"]),
        (["--gpu", "h100-80gb", "--workload", "throughput"], 0, ["octavo serve", "--preset throughput"]),
        (["--gpu", "h100-80gb", "--costs"], 0, ["bound by", "memory", "compute"]),
        (["--gpu", "v100-32gb"], 1, ["Does not fit", "compute capability 8.0", "got 7.0"]),
        (["--gpu-memory", "64GiB", "--device", "cpu"], 0, ["a CPU", "1 GiB", "swap", "0.50"]),
        (["--gpu", "t4", "--gpu-memory", "64GiB", "--device", "cpu"], 0, ["Fits"]),
    ],
)
def test_command_prints(arguments, code, words):
    result = typer.testing.CliRunner().invoke(app, ["plan", "Llama-2-13b", *arguments], standalone_mode=False)
    assert result.exception is None
    assert [word for word in words if word not in result.stdout] == []
    assert result.return_value == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "gpu: must be named, or gpu_memory given"),
        (["--gpu", "l4", "--lengths", "1024,5000"], "lengths: must be numbers from 1 to 4096"),
        (["--gpu", "l4", "--lengths", "\u0663"], "lengths: must be numbers from 1 to 4096"),
        (["--gpu", "l4", "--workload", "fast"], "workload: must be one of throughput, latency, got 'fast'"),
        (["--gpu-memory", "80GB", "--costs"], "costs: need a GPU whose speed is known, got 80GB GPU"),
        (["--gpu", "h200-141gb", "--costs", "--dtype", "float32"], "costs: are known for types of 16 bits"),
        (["--gpu", "l4", "--max-num-seqs", "0"], "max_num_seqs: input should be greater than or equal to 1"),
    ],
)
def test_command_refuses_in_one_line(arguments, words):
    result = typer.testing.CliRunner().invoke(app, ["plan", "Llama-2-13b", *arguments], standalone_mode=False)
    assert isinstance(result.exception, ValueError)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_rope_table_fits_in_the_reserve():
    spec = find_spec("Llama-3.1-8B")
    rotary = RotaryEmbedding(spec.head_dim, spec.rope_theta, None, torch.device("cpu"))
    rotary.reach(1024)
    bytes_per_position = rotary.table.nbytes // 1024
    assert bytes_per_position * spec.max_position < reserve_bytes(spec, config()) // 4


@pytest.mark.parametrize(
    ("gpu", "values", "ratio"), [("h100-80gb", "fp8", 0.5), ("a100-80gb", "fp8", 1), ("a100-80gb", "integers", 0.5)]
)
def test_prompts_in_8_bits_by_8_bits_take_half_of_the_arithmetic(gpu, values, ratio):
    spec = find_spec("Llama-3.1-8B")
    narrow = replace(spec, quantization=Scheme("float-quantized", 8, values, rounds_inputs=True))
    whole, eight = (prefill_cost(each, GPUS[gpu], 1024).compute_seconds for each in (spec, narrow))
    assert eight / whole == pytest.approx(ratio, rel=0.1)
    few = [prefill_cost(each, GPUS[gpu], 64).compute_seconds for each in (spec, narrow)]
    assert few[0] == few[1]


def test_prompts_meet_in_16_bits_what_is_kept_so():
    spec, gpu = find_spec("Llama-3.1-8B"), GPUS["h100-80gb"]
    scheme = Scheme("float-quantized", 8, "fp8", rounds_inputs=True)
    kept = {"down_proj": 14336 * 4096, "q_proj": (4096 + 2 * 1024) * 4096}  # queries, keys and values run as one
    whole = prefill_cost(replace(spec, quantization=scheme), gpu, 1024).compute_seconds
    for name, size in kept.items():
        narrow = replace(spec, quantization=replace(scheme, kept=(name,)))
        more = prefill_cost(narrow, gpu, 1024).compute_seconds - whole
        assert more * gpu.half_flops == pytest.approx(32 * size * 1024)


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "DeepSeek-V2-Lite"])
def test_the_largest_weight_that_is_unpacked_is_kept_free(name):
    """Once beside the steps that are launched kernel by kernel, once in the graphs' memory."""
    spec = find_spec(name)
    scheme = Scheme("awq", 4, group=(1, 128), has_zeros=True, kept=("lm_head$",))
    largest = 2 * spec.hidden_size * 2 * spec.intermediate_size
    narrow = replace(spec, quantization=scheme)
    assert reserve_bytes(narrow, config()) - reserve_bytes(spec, config()) == 2 * largest
    with_head = replace(spec, quantization=replace(scheme, kept=()))
    head = 2 * spec.hidden_size * spec.vocab_size
    assert reserve_bytes(with_head, config()) - reserve_bytes(spec, config()) == 2 * max(largest, head)
    rounded = replace(spec, quantization=Scheme("float-quantized", 8, "fp8", rounds_inputs=True))
    assert reserve_bytes(rounded, config()) == reserve_bytes(spec, config())
    wide = config(dtype="float32")
    assert reserve_bytes(narrow, wide) == reserve_bytes(spec, wide), "it was unpacked at load"


def test_fp8_is_unpacked_for_results_in_float16():
    """Its products with itself have results in bfloat16 alone."""
    scheme = Scheme("float-quantized", 8, "fp8", kept=("lm_head$",), rounds_inputs=True)
    spec = replace(find_spec("Llama-3.1-8B"), quantization=scheme)
    plans = {dtype: plan_memory(spec, config(dtype=dtype), 80 * 2**30) for dtype in ("bfloat16", "float16")}
    largest = 2 * spec.hidden_size * 2 * spec.intermediate_size
    assert plans["float16"].reserves - plans["bfloat16"].reserves == 2 * largest
    costs = {
        dtype: make_report(
            EngineConfig(model="Llama-3.1-8B", quantization="fp8", dtype=dtype),
            gpu="l4", gpu_memory="", lengths="4096", workload="", costs=True,
        ).prefill_costs[0].compute_seconds
        for dtype in plans
    }  # fmt: skip
    assert costs["float16"] > 1.5 * costs["bfloat16"]
