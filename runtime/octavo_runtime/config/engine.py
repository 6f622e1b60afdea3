"""Every setting of the engine, with its bounds: the one source for Python, the command line and the LLMService. Free of
torch: the operator imports this module."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel

from octavo_runtime.config.json_object import json_object, json_text
from octavo_runtime.config.presets import PRESETS, STEP_TOKENS, describe_presets
from octavo_runtime.config.speculation import Speculation, parse_speculation
from octavo_runtime.config.units import Duration, Quantity, parse_quantity

StoredFormat = Literal["awq", "gptq", "compressed-tensors", "bitsandbytes", "fbgemm_fp8", "squeezellm", "gguf", "mxfp4"]
"""How checkpoints store weights in fewer bits, as their own configurations name it."""


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"must be a power of two, got {value}")
    return value


def _shares_ranks(nodes: int, others: ValidationInfo) -> int:
    shards, stages = others.data.get("tensor_parallel_size", nodes), others.data.get("pipeline_parallel_size", 1)
    if shards * stages % nodes:
        times = "" if stages == 1 else f" times {stages} stages"
        raise ValueError(f"must divide the {shards} ranks of tensor_parallel_size{times}, got {nodes}")
    return nodes


def _below_nodes(rank: int, others: ValidationInfo) -> int:
    nodes = others.data.get("nnodes", rank + 1)
    if rank >= nodes:
        raise ValueError(f"must be less than nnodes, which is {nodes}, got {rank}")
    return rank


def _more_than_bytes(text: str) -> str:
    # Elsewhere this setting is a number of GiB.
    if 0 < parse_quantity(text) < 2**20:
        raise ValueError(f"must be 0 or at least 1Mi, with its unit, such as 4Gi, got {text!r}")
    return text


SwapSpace = Annotated[Quantity, AfterValidator(_more_than_bytes)]

_GENERATION_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


def _generation_fields(text: str) -> str:
    for name in json_object(text, '{"temperature": 0.5}'):
        if name not in _GENERATION_FIELDS:
            raise ValueError(f"may set {', '.join(_GENERATION_FIELDS)}, got {name!r:.100}")
    return text


def _speculation_text(text: str, others: ValidationInfo) -> str:
    parse_speculation(text)
    if others.data.get("max_num_seqs") == 1:
        raise ValueError("needs max_num_seqs of at least 2, whose places in a step guesses take, got 1")
    return text


class EngineConfig(BaseModel):
    """What the engine runs and within which bounds. Python and the command line use the field names (`max_model_len`,
    `--max-model-len`), the LLMService their camelCase form (`maxModelLen`)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    model: str = Field(
        min_length=1,
        description="Model to serve: builtin://NAME, OWNER/NAME of the hub or hf://OWNER/NAME@REVISION, "
        "s3://BUCKET/PREFIX, oci://REGISTRY/NAME:TAG, file:///PATH or a path.",
    )
    preset: Literal["small-gpu", "large-gpu", "throughput", "latency"] | None = Field(
        None,
        description=f"Defaults of other fields, which win where they are set: {describe_presets()}. Default: none.",
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Where the tokenizer and the chat template come from, named like a model; its end token ends "
        "answers too. Default: the model.",
    )
    chat_template: str | None = Field(
        None,
        min_length=1,
        max_length=65_536,
        description="Chat template in the place of the model's: a file, or the Jinja template itself. Default: the "
        "model's.",
    )
    reranker: Literal["auto", "qwen3"] = Field(
        "auto",
        description="Serve a model that generates text as one that scores documents, as it was published to be but its "
        "files do not say. qwen3: by the words yes and no behind Qwen3-Reranker's prompt, in which chat_template may "
        "take the place of the published one. Default auto: as the files say.",
    )
    trust_remote_code: bool = Field(
        False,
        description="Let a model folder without tokenizer.json run its own Python code, once, in a process apart, to "
        "make one. Nothing else of a model is ever executed. Default false.",
    )
    generation_config: str = Field(
        "auto",
        min_length=1,
        max_length=512,
        description="Where the sampling defaults of requests come from: auto, the model's generation_config.json; vllm "
        "or none, the API's own; or a folder with a generation_config.json. Default auto.",
    )
    override_generation_config: (
        Annotated[str, BeforeValidator(json_text), AfterValidator(_generation_fields)] | None
    ) = Field(
        None,
        max_length=1024,
        description=f"Sampling defaults that go before those, as a JSON object of {', '.join(_GENERATION_FIELDS)}. "
        "Default: none.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs. Default auto: the GPU if there is one, else the CPU."
    )
    tensor_parallel_size: int = Field(
        1,
        ge=1,
        le=64,
        description="Devices that compute the model together, those of all nodes, each a share of every layer; it must "
        "divide the model's attention heads and inner widths. On CPUs: processes that share them. Default 1.",
    )
    pipeline_parallel_size: int = Field(
        1,
        ge=1,
        le=64,
        description="Stages of layers that a model is cut into, one behind another, each on tensor_parallel_size "
        "devices of its own: so many times the devices. Default 1.",
    )
    enable_expert_parallel: bool = Field(
        False,
        description="Split a mixture's experts over these devices as whole experts, in the place of a share of each "
        "expert: their number need not divide the experts, nor an expert's inner width. Default false.",
    )
    nnodes: Annotated[int, AfterValidator(_shares_ranks)] = Field(
        1,
        ge=1,
        le=64,
        description="Machines that compute the model together, each with as many of the devices; the same command is "
        "run on each of them, apart from node_rank. Default 1.",
    )
    node_rank: Annotated[int, AfterValidator(_below_nodes)] = Field(
        0,
        ge=0,
        le=63,
        description="Number of this machine among the nodes. Node 0 leads: it answers clients, and the others answer "
        "health checks alone. Default 0.",
    )
    master_addr: str = Field(
        "127.0.0.1",
        min_length=1,
        max_length=253,
        description="Address of node 0, by which the other nodes reach it. Whoever reaches it can disturb the model: "
        "it belongs on a network of the nodes' own. Default 127.0.0.1.",
    )
    master_port: int = Field(
        29501, ge=1, le=65535, description="Port of node 0 at that address that the other nodes call. Default 29501."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of weights and activations. Default auto: bfloat16."
    )
    quantization: Literal["auto", "none", "fp8", "int8", StoredFormat] = Field(
        "auto",
        description="Bits of the layers' weights: auto, as the checkpoint stores them, whose configuration says how; "
        "fp8 or int8 makes 8 bits of weights of 16 while they load, with a scale for each output; none, as auto, where "
        "an LLMService with auto would choose fp8 since the model fits no GPU otherwise; the name of a format, as auto "
        "for a checkpoint that is stored so, while others are refused. Default auto.",
    )
    kv_cache_dtype: Literal["auto", "fp8", "int8"] = Field(
        "auto",
        description="Type of the KV cache: auto, that of dtype; fp8 (e4m3) or int8 holds about twice the tokens, with "
        "a scale for each head, the checkpoint's own where it has them. Default auto.",
    )
    load_format: Literal["auto", "dummy"] = Field(
        "auto", description="dummy fills the weights with random values, to measure without a checkpoint. Default auto."
    )
    max_model_len: int | None = Field(
        None,
        ge=16,
        le=4_194_304,
        description="Most tokens of one request, prompt and answer together. Default: the model's own limit, "
        "or less where the KV cache is smaller.",
    )
    max_num_seqs: int = Field(
        64, ge=1, le=4096, description="Most sequences computed in one step. Default: the preset's, else 64."
    )
    max_num_batched_tokens: int | None = Field(
        None,
        ge=16,
        le=1_048_576,
        description="Most tokens computed in one step; longer prompts run in chunks. Default: the preset's, else "
        f"{STEP_TOKENS['cuda']} on a GPU, {STEP_TOKENS['cpu']} on a CPU.",
    )
    block_size: Annotated[int, AfterValidator(_power_of_two)] = Field(
        16, ge=8, le=256, description="Tokens in one block of the KV cache, a power of two. Default 16."
    )
    gpu_memory_utilization: float = Field(
        0.9,
        ge=0.05,
        le=1.0,
        description="Share of the GPU's memory to use, weights included. Default: the preset's, else 0.9.",
    )
    kv_cache_memory: Quantity | None = Field(
        None,
        description="Size of the KV cache, such as 4Gi. Default: on a GPU all that the memory share leaves, "
        "on a CPU 1Gi or a quarter of the free memory, whichever is less.",
    )
    swap_space: SwapSpace | None = Field(
        None,
        description="Host memory for the KV cache of preempted requests, such as 4Gi. Default: an eighth of the free "
        "host memory, at most 4Gi on a GPU and half of the KV cache on a CPU; nothing where preemption recomputes.",
    )
    enable_prefix_caching: bool = Field(
        True, description="Keep the KV cache of finished requests for prompts that begin alike. Default true."
    )
    scheduling_policy: Literal["fcfs", "priority"] = Field(
        "fcfs",
        description="Who goes first: fcfs, in order of arrival, or priority, the lower number. Default fcfs.",
    )
    priority_aging: Duration = Field(
        "30s",
        description="With the priority policy: by how much earlier a request counts as having arrived for each step of "
        "priority, so that none waits for ever. Default 30s.",
    )
    preemption_mode: Literal["auto", "recompute", "swap"] = Field(
        "auto",
        description="What becomes of a running request when blocks run out: recompute it later, or swap its blocks to "
        "host memory. Default auto: whichever costs less.",
    )
    max_queue_len: int | None = Field(
        None, ge=1, le=1_048_576, description="Most requests that wait; further ones are refused. Default: no limit."
    )
    queue_timeout: Duration | None = Field(
        None, description="Longest wait of a request for its turn, such as 30s; then it is refused. Default: no limit."
    )
    speculative_config: Annotated[str, BeforeValidator(json_text), AfterValidator(_speculation_text)] | None = Field(
        None,
        max_length=1024,
        description="Guess tokens and check them in one step, as a JSON object such as "
        '{"method": "ngram", "num_speculative_tokens": 4}: up to so many that followed where the last '
        "prompt_lookup_max to prompt_lookup_min tokens (5 each) stood before. Answers stay the same; see "
        "docs/engine.md. Default: none.",
    )
    cpu_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Threads of the CPU device. Default: the CPUs that this process may use, or fewer where "
        "OMP_NUM_THREADS says so.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=2**63 - 1,
        description="Base of the randomness of requests that bring no seed. Default: another one at each start.",
    )
    log_stats: bool = Field(False, description="Log load and speed at regular times. Default false.")

    @property
    def speculation(self) -> Speculation | None:
        """What speculative_config says."""
        return None if self.speculative_config is None else parse_speculation(self.speculative_config)

    @property
    def num_ranks(self) -> int:
        """Devices that compute the model together, or on CPUs processes."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        """The preset's values where nothing else is said; an unknown preset is left for its field to refuse."""
        preset = PRESETS.get(str(given.get("preset"))) if isinstance(given, dict) else None
        if preset is None:
            return given
        said = {field_name(key) for key in given}
        return given | {name: value for name, value in preset.values.items() if name not in said}

    @property
    def local_ranks(self) -> int:
        """How many of the model's ranks are processes of one node."""
        return self.num_ranks // self.nnodes


def field_name(key: str) -> str:
    """`max_model_len` for maxModelLen and for itself."""
    return _NAMES.get(key, key)


_NAMES = {field.alias or name: name for name, field in EngineConfig.model_fields.items()}
