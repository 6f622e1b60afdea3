"""Whether a model fits, in numbers: by hand for one model, and in the words of the spec."""

from typing import Any

import pytest
from built import service

from octavo_operator import sizing
from octavo_operator.sizing import Verdict
from octavo_runtime.planning.description import FoundModel
from octavo_runtime.planning.gpus import GPUS, Gpu
from octavo_runtime.planning.known_models import find_spec

LLAMA_70B = FoundModel(find_spec("meta-llama/Llama-3.3-70B-Instruct"), 0)
LLAMA_8B = FoundModel(find_spec("meta-llama/Llama-3.1-8B"), 0)
GEMMA_9B = FoundModel(find_spec("google/gemma-2-9b"), 0)
SMALL = FoundModel(find_spec("HuggingFaceTB/SmolLM2-135M"), 96_436_224)
GIB = 2**30


def on_cpu(memory: int, **engine: Any) -> Verdict:
    return sizing.on_cpu(SMALL, sizing.engine_config(service(engine=engine)), memory)


def on_gpus(found: FoundModel, *gpus: Gpu, **engine: Any) -> Verdict:
    return sizing.on_gpus(found, sizing.engine_config(service(engine=engine)), dict.fromkeys(gpus, 1), {})


def test_a_model_of_8_billion_parameters_on_80_gib_by_hand() -> None:
    """Parameters times two bytes; 32 layers of a key and a value of 8 heads of 128 in two bytes; a step of 8,448
    tokens; graphs of 2,048."""
    verdict = on_gpus(LLAMA_8B, Gpu("g", 80 * GIB, None, None, None))
    assert (verdict.fits, verdict.reason, verdict.chosen) == (True, "Fits", {})
    plan = verdict.plan
    assert plan is not None
    assert plan.weight_bytes == 8_030_261_248 * 2
    assert plan.kv_bytes_per_token == 32 * 2 * 8 * 128 * 2
    reserves = GIB + 3_008_364_544 + 540_016_640
    assert plan.context_bytes + plan.activation_bytes + plan.graph_bytes == reserves
    left = 77_309_411_328 - 16_060_522_496 - reserves
    assert plan.kv_cache_bytes == left == 56_626_765_824
    assert plan.num_tokens == left // (16 * 131_072) * 16 == 432_016
    assert verdict.message == (
        "of g (85.90 GB), 16.06 GB of weights and 4.62 GB of reserves leave a KV cache of 56.63 GB for 432,016 tokens; "
        "requests of up to 131,072 tokens"
    )


def test_a_container_by_hand() -> None:
    """326 MB of weights and head in 16 bits, 96 MB packed, 384 MiB of processes; a quarter of the rest is cache."""
    verdict = on_cpu(2 * GIB)
    assert verdict.fits
    plan = verdict.plan
    assert plan is not None
    assert plan.weight_bytes == (134_515_008 + 49_152 * 576) * 2 + 96_436_224
    assert plan.kv_cache_bytes == (2 * GIB - plan.weight_bytes - 384 * 2**20) // 4
    assert plan.num_tokens == plan.kv_cache_bytes // (16 * 30 * 2 * 3 * 64 * 2) * 16


def test_memory_that_a_busy_server_may_run_out_of_is_told_and_not_refused() -> None:
    verdict = on_cpu(GIB)
    assert verdict.fits
    said = "it may run out of memory there, at its start or once it is busy: spec.resources.memory 1152Mi ("
    assert said in verdict.message
    assert verdict.advised == "1152Mi"
    enough = on_cpu(1152 * 2**20)
    assert "busy" not in enough.message
    assert enough.advised is None


@pytest.mark.parametrize(
    ("memory", "engine", "words"),
    [
        (
            256 * 2**20,
            {},
            "spec.resources.memory: must be at least 0.82 GB for weights and reserves, got 0.27 GB to use; what would "
            "do: spec.resources.memory 1152Mi (the least that holds a busy server and 4,144 tokens",
        ),
        (
            GIB,
            {"maxModelLen": 8192},
            "spec.engine.maxModelLen: must be at most 2688, the tokens that the KV cache holds, got 8192; raise "
            "spec.engine.kvCacheMemory; what would do: spec.resources.memory 1536Mi (the least",
        ),
        (2 * GIB, {"kvCacheMemory": "3Gi"}, "no spec.engine.kvCacheMemory (takes what is left"),
        (
            2 * GIB,
            {"maxModelLen": 9000},
            "spec.engine.maxModelLen: must be at most 8192, the model's own limit, got 9000",
        ),
        (
            2 * GIB,
            {"maxNumBatchedTokens": 32},
            "spec.engine.maxNumBatchedTokens: must be at least spec.engine.maxNumSeqs",
        ),
    ],
)
def test_what_does_not_fit_a_container_is_told_with_the_nearest_setting_that_does(
    memory: int, engine: dict[str, Any], words: str
) -> None:
    verdict = on_cpu(memory, **engine)
    assert (verdict.fits, verdict.reason) == (False, "DoesNotFit")
    assert words in verdict.message


def test_what_does_not_fit_a_gpu_is_told_with_the_nearest_setting_that_does() -> None:
    verdict = on_gpus(LLAMA_8B, GPUS["rtx-4090"], maxModelLen=65_536, quantization="none")
    assert verdict.fits is False
    assert "rtx-4090 (25.76 GB): spec.engine.maxModelLen: must be at most " in verdict.message
    assert "what would do: spec.engine.maxModelLen " in verdict.message
    assert "or a GPU such as " in verdict.message
    verdict = on_gpus(LLAMA_8B, GPUS["t4"])
    assert "gpu: must have compute capability 8.0 or newer, which the kernels need, got 7.5 (t4)" in verdict.message


def test_what_the_spec_leaves_open_is_chosen_and_what_it_says_is_not_touched() -> None:
    verdict = on_gpus(GEMMA_9B, GPUS["l4"])
    assert (verdict.fits, verdict.reason) == (True, "Fits")
    assert verdict.chosen
    assert "set since the spec leaves it open and the model would not fit otherwise" in verdict.message
    said = {"gpuMemoryUtilization": 0.9, "maxNumBatchedTokens": 8192, "quantization": "none"}
    assert on_gpus(GEMMA_9B, GPUS["l4"], **said).fits is False
    assert on_gpus(GEMMA_9B, GPUS["a100-40gb"]).chosen == {}


def on_nodes(number: int, former: dict[str, Any] | None = None, **spec: Any) -> Verdict:
    """Llama 3.3 70B, 141 GB in 16 bits and 72 in 8, on nodes with so many A100 of 40 GiB."""
    config = sizing.engine_config(service(accelerator={"type": "nvidia"} | spec.pop("accelerator", {}), **spec))
    return sizing.on_gpus(LLAMA_70B, config, {GPUS["a100-40gb"]: number}, former or {})


def test_the_fewest_gpus_of_a_node_are_chosen_where_one_does_not_hold_it() -> None:
    verdict = on_nodes(8)
    assert (verdict.reason, verdict.chosen) == ("Fits", {"tensor_parallel_size": 8})
    assert "; with spec.accelerator.count 8, set since the spec leaves it open" in verdict.message
    assert on_nodes(8, accelerator={"count": 8}).chosen == {}
    assert on_nodes(8, accelerator={"count": 1}).fits is False


def test_weights_of_8_bits_are_chosen_where_no_node_has_enough_gpus() -> None:
    assert on_nodes(4).chosen == {"quantization": "fp8", "tensor_parallel_size": 4}
    assert on_nodes(4, engine={"quantization": "int8"}).chosen == {"tensor_parallel_size": 4}
    refused = on_nodes(4, engine={"quantization": "none"})
    assert refused.fits is False
    assert "what would do: spec.accelerator.count 8" in refused.message
    file = FoundModel(LLAMA_70B.spec, 40_000_000_000)
    config = sizing.engine_config(service(accelerator={"type": "nvidia"}))
    assert sizing.on_gpus(file, config, {GPUS["a100-40gb"]: 4}, {}).fits is False, "a GGUF file is served as it is"


def test_what_was_chosen_stays_while_it_will_do() -> None:
    before = {"tensor_parallel_size": 16}
    assert on_nodes(16, before).chosen == before
    assert on_nodes(8, before).chosen == {"tensor_parallel_size": 8}


def test_of_several_kinds_of_gpus_one_that_holds_it_is_enough() -> None:
    verdict = on_gpus(LLAMA_8B, GPUS["a100-80gb"], GPUS["t4"])
    assert (verdict.fits, verdict.reason) == (True, "FitsSomeGpus")
    assert "not on t4 (16.11 GB), where its pods may be placed too: set spec.accelerator.product" in verdict.message
    both = on_gpus(LLAMA_8B, GPUS["a100-80gb"], GPUS["a100-40gb"])
    assert both.reason == "Fits"
    assert both.plan is not None
    assert both.plan.device_memory == GPUS["a100-40gb"].memory, "no pod holds less than is said"


def test_a_gpu_of_unknown_memory_is_told_as_such() -> None:
    verdict = on_gpus(LLAMA_8B)
    assert (verdict.fits, verdict.reason) == (None, "DeviceUnknown")
    assert "set spec.accelerator.memory" in verdict.message


A100 = {
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "0",
    "zone": "a",
}
T4 = {"nvidia.com/gpu.product": "Tesla-T4", "zone": "b"}


def gpus(pod: dict[str, Any], product: str | None = None) -> list[tuple[str, int]]:
    nodes = [{"metadata": {"labels": labels}} for labels in (A100, A100, T4, {"zone": "a"})]
    return [(gpu.name, gpu.memory // 2**20) for gpu in sizing.gpus_of(nodes, pod, product)]


def required(**expression: Any) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone"} | expression]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def test_gpus_are_those_of_the_nodes_that_pods_may_go_to() -> None:
    large, small = ("NVIDIA-A100-SXM4-80GB", 81_920), ("Tesla-T4", 15_360)
    assert gpus({}) == [large, small]
    assert gpus({"nodeSelector": {"zone": "b"}}) == [small]
    assert gpus(required(operator="In", values=["a"])) == [large]
    assert gpus(required(operator="NotIn", values=["a"])) == [small]
    assert gpus(required(operator="DoesNotExist")) == []
    assert gpus(required(key="nvidia.com/gpu.memory", operator="Gt", values=["20000"])) == [large]
    assert gpus({"nodeSelector": {"zone": "c"}}, "NVIDIA-L4") == [("l4", 23_034)], "none is there yet"


def test_the_number_of_gpus_is_that_of_the_node_that_has_most() -> None:
    nodes = [
        {"metadata": {"labels": A100}, "status": {"allocatable": {"nvidia.com/gpu": number}}} for number in ("4", "8")
    ]
    assert list(sizing.gpus_of([*nodes, {"metadata": {"labels": A100}}], {}, None).values()) == [8]
    assert list(sizing.gpus_of([], {}, "NVIDIA-L4").values()) == [16], "what a node that may come has is not known"


def test_gpus_of_nodes_whose_taints_a_pod_does_not_tolerate_do_not_count() -> None:
    def found(pod: dict[str, Any], **taint: str) -> list[str]:
        node = {"metadata": {"labels": A100}, "spec": {"taints": [{"effect": "NoSchedule"} | taint]}}
        return [gpu.name for gpu in sizing.gpus_of([node], pod, None)]

    def tolerates(**toleration: str) -> dict[str, Any]:
        return {"tolerations": [toleration]}

    training = {"key": "team", "value": "training"}
    assert found({}, **training) == []
    assert found({}, **training | {"effect": "NoExecute"}) == []
    assert found({}, **training | {"effect": "PreferNoSchedule"}) == [A100[sizing.GPU_PRODUCT]]
    assert found({}, key="node.kubernetes.io/unschedulable") == [A100[sizing.GPU_PRODUCT]], "that passes"
    assert found(tolerates(key="team", operator="Exists"), **training)
    assert found(tolerates(operator="Exists"), **training)
    assert found(tolerates(key="team", value="training"), **training)
    assert not found(tolerates(key="team", value="serving"), **training)
    assert not found(tolerates(key="other", operator="Exists"), **training)
    assert not found(tolerates(key="team", operator="Exists", effect="NoExecute"), **training)


def test_the_spec_may_say_the_memory_itself() -> None:
    said = sizing.said_gpu(service(accelerator={"type": "nvidia", "memory": "80Gi"}))
    assert said is not None
    ((gpu, number),) = said.items()
    assert (gpu.name, gpu.memory, number) == ("GPU of 80Gi", 80 * GIB, 16)
    old = sizing.said_gpu(service(accelerator={"type": "nvidia", "memory": "16Gi", "product": "Tesla-T4"}))
    assert old is not None
    assert not next(iter(old)).is_supported
    assert sizing.said_gpu(service(accelerator={"type": "nvidia"})) is None


@pytest.mark.parametrize(
    ("accelerator", "said"),
    [
        ({"count": 2}, "spec.accelerator.count: must divide the 9 attention heads, got 2"),
        (
            {"count": 4},
            "spec.accelerator.count divided by spec.engine.pipelineParallelSize: must divide the 9 attention heads, "
            "got 2",
        ),
        (
            {"count": 2, "nodes": 2},
            "spec.accelerator.nodes times count divided by spec.engine.pipelineParallelSize: must divide the 9 "
            "attention heads, got 2",
        ),
    ],
)
def test_what_must_divide_the_heads_is_named(accelerator: dict[str, int], said: str) -> None:
    stages = accelerator["count"] * accelerator.get("nodes", 1) // 2
    chat = service(accelerator=accelerator, engine={"pipelineParallelSize": stages})
    verdict = sizing.on_cpu(SMALL, sizing.engine_config(chat), 2 * GIB)
    assert sizing.of_devices(verdict, chat.spec.accelerator.nodes, stages).message.startswith(said)


def test_settings_of_one_word_have_their_names_in_the_spec_too() -> None:
    verdict = on_cpu(2 * GIB, quantization="fp8", dtype="float16")
    assert verdict.fits, "or the next assertion means nothing"
    assert sizing._in_spec("quantization: must be auto for a GGUF file, got int8").startswith("spec.engine.quant")
    assert sizing._in_spec("model: must be a decoder").startswith("spec.model.uri: ")
