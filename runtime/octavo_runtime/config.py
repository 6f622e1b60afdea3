"""Every setting of the engine and of its server, with bounds: the one source for Python, the command line and the
LLMService. Free of torch: the operator imports this module."""

import json
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from octavo_runtime.presets import PRESET_FIELDS as PRESET_FIELDS  # the operator imports this module, not presets
from octavo_runtime.presets import PRESETS as PRESETS
from octavo_runtime.presets import describe_presets

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


def _more_than_bytes(text: str) -> str:
    # Elsewhere this setting is a number of GiB.
    if 0 < parse_quantity(text) < 2**20:
        raise ValueError(f"must be 0 or at least 1Mi, with its unit, such as 4Gi, got {text!r}")
    return text


def _not_zero(text: str) -> str:
    if parse_duration(text) == 0:
        raise ValueError(f"must be more than 0s, got {text!r}")
    return text


KNOWN_QUANTIZATION = ("awq", "gptq", "int8", "fp8")


def _not_quantized(value: str) -> str:
    known = ", ".join(KNOWN_QUANTIZATION)
    raise ValueError(f"must be unset: weights are served in dtype, and {known} are not supported, got {value!r}")


_GENERATION_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


def _json_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


def _generation_fields(text: str) -> str:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(f'must be a JSON object such as {{"temperature": 0.5}}, got {text!r:.100}')
    for name in given:
        if name not in _GENERATION_FIELDS:
            raise ValueError(f"may set {', '.join(_GENERATION_FIELDS)}, got {name!r:.100}")
    return text


class EngineConfig(BaseModel):
    """What the engine runs and within which bounds. Python and the command line use the field names (`max_model_len`,
    `--max-model-len`), the LLMService their camelCase form (`maxModelLen`)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    model: str = Field(
        min_length=1, description="Model to serve: builtin://NAME, hf://OWNER/NAME@REVISION, file:///PATH or a path."
    )
    preset: Literal["small-gpu", "large-gpu", "throughput", "latency"] | None = Field(
        None,
        description=f"Defaults of other fields, which win where they are set: {describe_presets()}. Default: none.",
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Where the tokenizer and the chat template come from, named like a model. Default: the model.",
    )
    tokenizer_mode: Literal["auto"] = Field(
        "auto", description="auto, the one there is: the tokenizers library reads tokenizer.json. Default auto."
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
        Annotated[str, BeforeValidator(_json_text), AfterValidator(_generation_fields)] | None
    ) = Field(
        None,
        max_length=1024,
        description=f"Sampling defaults that go before those, as a JSON object of {', '.join(_GENERATION_FIELDS)}. "
        "Default: none.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs. Default auto: the GPU if there is one, else the CPU."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of weights, activations and KV cache. Default auto: bfloat16."
    )
    quantization: Annotated[str, AfterValidator(_not_quantized)] | None = Field(
        None,
        max_length=32,
        description=f"Must be unset: {', '.join(KNOWN_QUANTIZATION)} are not supported. Default: none, weights are "
        "served in dtype.",
    )
    load_format: Literal["auto", "dummy"] = Field(
        "auto", description="dummy fills the weights with random values, to measure without a checkpoint. Default auto."
    )
    tensor_parallel_size: int = Field(
        1, ge=1, le=1, description="GPUs that share each layer; one is supported. Default 1."
    )
    pipeline_parallel_size: int = Field(
        1, ge=1, le=1, description="GPUs that share the layers between them; one is supported. Default 1."
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
        "8192 on a GPU, 512 on a CPU.",
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
    swap_space: Annotated[Quantity, AfterValidator(_more_than_bytes)] | None = Field(
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
    cpu_threads: int | None = Field(
        None, ge=1, le=1024, description="Threads of the CPU device. Default: the CPUs that this process may use."
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=2**63 - 1,
        description="Base of the randomness of requests that bring no seed. Default: another one at each start.",
    )
    log_stats: bool = Field(False, description="Log load and speed at regular times. Default false.")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        """The preset's values where nothing else is said; an unknown preset is left for its field to refuse."""
        preset = PRESETS.get(str(given.get("preset"))) if isinstance(given, dict) else None
        if preset is None:
            return given
        said = {_field_name(key) for key in given}
        return given | {name: value for name, value in preset.values.items() if name not in said}


class ServerConfig(BaseModel):
    """How `octavo serve` listens and stops."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; :: is every one of this machine, of IPv6 and of IPv4. Default 127.0.0.1.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one. Default 8000.")
    served_name: list[str] = Field(
        default_factory=list, description="Names that clients call the model by. Default: the model's own name."
    )
    api_workers: int = Field(
        1,
        ge=1,
        le=64,
        description="API processes that share the engine and the port; limits of API keys hold in each of them. "
        "Default 1.",
    )
    drain: Duration = Field(
        "30s", description="How long running requests may go on after SIGTERM, such as 300s. Default 30s."
    )
    tool_call_parser: Literal["auto", "hermes", "llama3", "mistral", "none"] = Field(
        "auto",
        description="How the model writes calls of functions; auto looks at its chat template; none refuses tools. "
        "Default auto.",
    )
    reasoning_parser: Literal["auto", "think", "none"] = Field(
        "auto",
        description="Whether <think>...</think> is told apart from the answer (think); auto looks at the chat "
        "template. Default auto.",
    )
    api_key: list[SecretStr] = Field(
        default_factory=list,
        description="Key that opens the API, as NAME=KEY or KEY; may be repeated. Other users of the machine can see "
        "it: a file or the environment variable OCTAVO_API_KEYS (keys with commas between) is safer. Default: none, "
        "everybody may call.",
    )
    api_key_file: str | None = Field(
        None,
        min_length=1,
        description='File of keys in TOML (NAME = "KEY", or a table with key and limits of its own), or a folder with '
        "a file for each key, as Kubernetes mounts a Secret. Changes are taken over within seconds. Default: none.",
    )
    guard_metrics: bool = Field(False, description="Ask for a key on /metrics too. Default false.")
    requests_per_minute: int | None = Field(
        None, ge=1, le=10**9, description="Most POST requests a minute of one key on this server. Default: no limit."
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="Most tokens a minute of one key on this server, prompts and answers together. Default: no limit.",
    )
    max_concurrent_requests: int | None = Field(
        None, ge=1, le=10**9, description="Most POST requests under way at a time of one key. Default: no limit."
    )
    tls_cert: str | None = Field(
        None,
        min_length=1,
        description="File of the server's certificate and those that lead to its root, in PEM form: serve by HTTPS. "
        "Changes are taken over within seconds. Default: none, plain HTTP.",
    )
    tls_key: str | None = Field(
        None, min_length=1, description="File of the certificate's private key, in PEM form. Required with tls_cert."
    )
    tls_client_ca: str | None = Field(
        None,
        min_length=1,
        description="File of the authorities in PEM form that clients must show a certificate of; read at the start "
        "alone. Default: clients show none.",
    )
    cors_origin: list[str] = Field(
        default_factory=list,
        description="Origin of web pages that may call the API, such as https://chat.example.com, or *; may be "
        "repeated. Default: none.",
    )
    max_body: Quantity = Field("16Mi", description="Largest body of a request. Default 16Mi.")
    max_connections: int = Field(4096, ge=1, le=10**6, description="Most open connections. Default 4096.")
    client_timeout: Annotated[Duration, AfterValidator(_not_zero)] = Field(
        "60s",
        description="How long a client may take to send a request's head, then its body, or to take a piece of an "
        "answer that lies ready for it. Default 60s.",
    )
    keep_alive: Annotated[Duration, AfterValidator(_not_zero)] = Field(
        "75s",
        description="How long a connection stays open between two requests, in whole seconds; longer than in the proxy "
        "or load balancer in front, which mostly keeps one for 60s. Default 75s.",
    )
    allowed_host: list[str] = Field(
        default_factory=list,
        description="Name that clients may reach this server by, such as llm.example.com, or * for any; may be "
        "repeated. Without keys and on a loopback address only localhost and IP addresses will do else, for a web page "
        "can make any other name mean this machine. Default: none.",
    )
    ping_interval: Duration = Field(
        "15s",
        description="How long a stream may be silent before a ping is sent, which clients pass over: proxies and "
        "clients give up a silent one. 0s sends none. Default 15s.",
    )
    strict: bool = Field(
        False,
        description="Refuse by name what cannot be done and cannot make an answer wrong, such as an effort or a tool "
        "of the API's own servers, instead of ignoring it. Default false.",
    )
    log_format: Literal["console", "json"] = Field(
        "console",
        description="Log lines for people (console), or for programs (json, one object each). Default console.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of log lines; debug shows health checks and scrapes too. Default info."
    )
    access_log: bool = Field(True, description="Log a line about each request when it ends. Default true.")
    log_prompts: bool = Field(
        False,
        description="Log the prompts too, without keys, e-mail addresses, card and phone numbers as far as they can be "
        "told, and cut short. Default false.",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/\S*)?$",
        max_length=2048,
        description="OpenTelemetry collector for traces, over OTLP/HTTP, such as http://collector:4318; needs the "
        "extra `tracing`. Default: no traces.",
    )
    metrics_aliases: Literal["none", "vllm"] = Field(
        "none", description="vllm serves the metrics by vLLM's names too. Default none."
    )
    ui: bool = Field(True, description="Serve a page for people at /: chat and live figures. Default true.")


def engine_config(model: str, **options: Any) -> EngineConfig:
    """The configuration that a Python caller's keyword arguments make. ValueError: one line that names field, bound and
    value."""
    try:
        return EngineConfig.model_validate({"model": model, **options})
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def engine_flags(options: dict[str, Any]) -> list[str]:
    """`octavo serve` flags for engine options given by either name: {"maxModelLen": 512, "logStats": False} ->
    ["--max-model-len", "512", "--no-log-stats"]."""
    flags = []
    for key, value in options.items():
        name = _field_name(key)
        if isinstance(value, bool):
            flags.append(flag(name) if value else flag(name, negated=True))
        elif value is not None:
            flags += [flag(name), str(value)]
    return flags


def flag(name: str, *, negated: bool = False) -> str:
    """The command line's form of a field: `--max-model-len`; of a boolean's false: `--no-log-stats`."""
    return ("--no-" if negated else "--") + name.replace("_", "-")


def is_boolean(annotation: Any) -> bool:
    """Whether a field's annotation is bool, or bool or None."""
    return annotation is bool or bool in get_args(annotation)


def _field_name(key: str) -> str:
    """`max_model_len` for maxModelLen and for itself."""
    return _NAMES.get(key, key)


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


_NAMES = {field.alias or name: name for name, field in EngineConfig.model_fields.items()}
