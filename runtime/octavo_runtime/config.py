"""Every setting of the engine and of its server, with bounds: the one source for Python, the command line and the
LLMService. Free of torch: the operator imports this module."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_QUANTITY_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}

DURATION_PATTERN = r"^[0-9]+(ms|s|m|h)$"
QUANTITY_PATTERN = r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G)?$"


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `500ms`, `300s`, `5m` or `1h`; ValueError otherwise."""
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h)", text)
    if match is None:
        raise ValueError(f"must be a duration such as 500ms, 300s or 5m, got {text!r}")
    return int(match[1]) * _DURATION_UNITS[match[2]]


def parse_quantity(text: str) -> int:
    """Bytes in a Kubernetes quantity such as `512Mi` or `2Gi`; ValueError otherwise."""
    match = re.fullmatch(r"([0-9]+)(Ki|Mi|Gi|Ti|k|M|G)?", text)
    if match is None:
        raise ValueError(f"must be a quantity of bytes such as 512Mi or 2Gi, got {text!r}")
    return int(match[1]) * _QUANTITY_UNITS[match[2] or ""]


def _checked(parse: Any) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


Duration = Annotated[str, Field(pattern=DURATION_PATTERN), _checked(parse_duration)]
Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN), _checked(parse_quantity)]


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"must be a power of two, got {value}")
    return value


class EngineConfig(BaseModel):
    """What the engine runs and within which bounds. Python and the command line use the field names (`max_model_len`,
    `--max-model-len`), the LLMService their camelCase form (`maxModelLen`)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    model: str = Field(
        min_length=1, description="Model to serve: builtin://NAME, hf://OWNER/NAME@REVISION, file:///PATH or a path."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs. Default auto: the GPU if there is one, else the CPU."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of weights, activations and KV cache. Default auto: bfloat16."
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
    max_num_seqs: int = Field(64, ge=1, le=4096, description="Most requests computed in one step. Default 64.")
    max_num_batched_tokens: int | None = Field(
        None,
        ge=16,
        le=1_048_576,
        description="Most tokens computed in one step; longer prompts run in chunks. "
        "Default 8192 on a GPU, 512 on a CPU.",
    )
    block_size: Annotated[int, AfterValidator(_power_of_two)] = Field(
        16, ge=8, le=256, description="Tokens in one block of the KV cache, a power of two. Default 16."
    )
    gpu_memory_utilization: float = Field(
        0.9, ge=0.05, le=1.0, description="Share of the GPU's memory to use, weights included. Default 0.9."
    )
    kv_cache_memory: Quantity | None = Field(
        None,
        description="Size of the KV cache, such as 4Gi. Default: on a GPU all that the memory share leaves, "
        "on a CPU 1Gi or a quarter of the free memory, whichever is less.",
    )
    cpu_threads: int | None = Field(
        None, ge=1, le=1024, description="Threads of the CPU device. Default: the CPUs that this process may use."
    )
    seed: int = Field(
        0, ge=0, le=2**63 - 1, description="Base of the randomness of requests that bring no seed. Default 0."
    )


class ServerConfig(BaseModel):
    """How `octavo serve` listens and stops."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on. Default 127.0.0.1.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one. Default 8000.")
    served_name: list[str] = Field(
        default_factory=list, description="Names that clients call the model by. Default: the model's own name."
    )
    drain: Duration = Field(
        "30s", description="How long running requests may go on after SIGTERM, such as 300s. Default 30s."
    )


def engine_flags(options: dict[str, Any]) -> list[str]:
    """`octavo serve` flags for engine options given by either name: {"maxModelLen": 512} -> ["--max-model-len",
    "512"]."""
    names = {field.alias or name: name for name, field in EngineConfig.model_fields.items()}
    flags = []
    for key, value in options.items():
        if value is not None:
            flags += ["--" + names.get(key, key).replace("_", "-"), str(value)]
    return flags


def explain(error: ValidationError) -> str:
    """One line that names each field, its bound and the value it got."""
    parts = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "value"
        message = item["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        if item["type"] == "extra_forbidden":
            message = "unknown field"
        elif item["type"] != "missing" and "got " not in message:
            message += f", got {item['input']!r}"
        parts.append(f"{field}: {message}")
    return "; ".join(parts)
