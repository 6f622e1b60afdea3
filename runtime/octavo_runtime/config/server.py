"""Every setting of `octavo serve` beside the engine's, with its bounds."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo

from octavo_runtime.config.units import Duration, Quantity, parse_duration, parse_quantity


def _not_zero(text: str) -> str:
    if parse_duration(text) == 0:
        raise ValueError(f"must be more than 0s, got {text!r}")
    return text


def _not_empty(text: str) -> str:
    if parse_quantity(text) == 0:
        raise ValueError(f"must be at least 1 byte, got {text!r}")
    return text


def _other_than_port(value: int | None, others: ValidationInfo) -> int | None:
    if value is not None and value == others.data.get("port"):
        raise ValueError(f"must be another one than port, got {value}")
    return value


CallSyntax = Literal[
    "hermes",
    "llama3",
    "mistral",
    "deepseek_v3",
    "deepseek_v31",
    "kimi_k2",
    "glm45",
    "qwen3_coder",
    "minimax_m2",
    "seed_oss",
    "pythonic",
    "harmony",
]
"""How models write calls of functions."""


class ServerConfig(BaseModel):
    """How `octavo serve` listens and stops."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on; :: is every one of this machine, of IPv6 and of IPv4. Default 127.0.0.1.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one. Default 8000.")
    metrics_port: Annotated[int | None, AfterValidator(_other_than_port)] = Field(
        None,
        ge=1,
        le=65535,
        description="Port that serves /metrics, and nothing else; --port then does not. Default: --port does.",
    )
    served_name: list[Annotated[str, Field(min_length=1)]] = Field(
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
    tool_call_parser: Literal["auto", CallSyntax, "none"] = Field(
        "auto",
        description="How the model writes calls of functions; auto looks at its chat template; none refuses tools. "
        "Default auto.",
    )
    reasoning_parser: Literal["auto", "think", "mistral", "seed_oss", "harmony", "none"] = Field(
        "auto",
        description="How reasoning is told apart from the answer: between <think>...</think> (think), [THINK] or "
        "<seed:think>, in channels (harmony), or not at all; auto looks at the chat template. Default auto.",
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
    max_body: Annotated[Quantity, AfterValidator(_not_empty)] = Field(
        "16Mi", description="Largest body of a request. Default 16Mi."
    )
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
