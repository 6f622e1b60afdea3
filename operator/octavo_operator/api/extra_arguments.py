"""spec.engine.extraArgs: arguments of `octavo serve` that have no field of their own."""

import json
from typing import Annotated, Any, get_origin

from pydantic import AfterValidator, Field, ValidationError

from octavo_operator.api.rules import cel, schema
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.explain import explain
from octavo_runtime.config.flags import flag, is_boolean
from octavo_runtime.config.server import ServerConfig

# Settings of the server that the operator sets, or relies on -> what to do instead.
_TAKEN = {
    "host": "the operator sets it",
    "port": "the operator sets it",
    "metrics_port": "the operator sets it, with spec.endpoint.allowedNamespaces",
    "log_format": "the operator reads the log as JSON",
    "served_name": "set spec.model.servedNames",
    "drain": "set spec.rollout.drain",
    "api_key": "set spec.endpoint.apiKeysSecret",
    "api_key_file": "set spec.endpoint.apiKeysSecret",
    "tls_cert": "set spec.endpoint.tlsSecret",
    "tls_key": "set spec.endpoint.tlsSecret",
    "tls_client_ca": "the kubelet's probes have no certificate to show",
    "requests_per_minute": "set spec.endpoint.rateLimit.requestsPerMinute",
    "tokens_per_minute": "set spec.endpoint.rateLimit.tokensPerMinute",
    "max_concurrent_requests": "set spec.endpoint.rateLimit.maxConcurrentRequests",
    "model": "set spec.model.uri",
    "device": "set spec.accelerator.type",
    "tensor_parallel_size": "set spec.accelerator.count",
    "nnodes": "set spec.accelerator.nodes",
    "node_rank": "the operator sets it",
    "master_addr": "the operator sets it",
    "master_port": "the operator sets it",
}


def _flags(name: str, annotation: Any) -> list[str]:
    return [flag(name), flag(name, negated=True)] if is_boolean(annotation) else [flag(name)]


_FIELDS = {
    word: name
    for name, field in ServerConfig.model_fields.items()
    if name not in _TAKEN
    for word in _flags(name, field.annotation)
}
_SWITCHES = sorted(word for word, name in _FIELDS.items() if is_boolean(ServerConfig.model_fields[name].annotation))
_VALUED = sorted(_FIELDS.keys() - set(_SWITCHES))
_INSTEAD = {
    word: _TAKEN.get(name, "set its field of spec.engine")
    for name, field in (EngineConfig.model_fields | ServerConfig.model_fields).items()
    if name in _TAKEN or name in EngineConfig.model_fields
    for word in _flags(name, field.annotation)
}
_KNOWN = ", ".join([f"{word}=VALUE" for word in _VALUED] + _SWITCHES)


def _cel_advice() -> str:
    """What to do instead, as a CEL expression that ends where the advice for all other words goes. The API server takes
    the values of a map for boundless: a chain of conditions is cheap."""
    words: dict[str, list[str]] = {}
    for word, advice in _INSTEAD.items():
        words.setdefault(advice, []).append(word)
    return "".join(f"self.split('=')[0] in {json.dumps(words[advice])} ? {json.dumps(advice)} : " for advice in words)


def _argument(text: str) -> str:
    """One argument. No message repeats a value that it may not have: it could be a key."""
    name, equals, _ = text.partition("=")
    if name in _INSTEAD:
        raise ValueError(f"{_INSTEAD[name]}, got {name}")
    if (name not in _SWITCHES or equals) and (name not in _VALUED or not equals):
        raise ValueError(f"must be one of {_KNOWN}, got {name}")
    return text


def _arguments(arguments: list[str]) -> list[str]:
    """All of them, each held to the bounds of its setting."""
    values: dict[str, Any] = {}
    for text in arguments:
        word, _, value = text.partition("=")
        name = _FIELDS[word]
        if get_origin(ServerConfig.model_fields[name].annotation) is list:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise ValueError(f"must be given once, got {word} again")
        else:
            values[name] = word == flag(name) if word in _SWITCHES else value
    try:
        ServerConfig.model_validate(values)
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    return arguments


ExtraArgument = Annotated[
    str,
    Field(
        max_length=2048,
        json_schema_extra=schema(
            cel(
                f"self in {json.dumps(_SWITCHES)} || self.contains('=') && self.split('=')[0] in {json.dumps(_VALUED)}",
                f"({_cel_advice()}'must be one of {_KNOWN}') + ', got ' + self.split('=')[0]",
            ),
        ),
    ),
    AfterValidator(_argument),
]
ExtraArguments = Annotated[list[ExtraArgument], AfterValidator(_arguments)]
