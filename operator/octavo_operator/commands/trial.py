"""A few real requests to a service, through the API server's proxy: what a client would meet."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo_operator import kinds
from octavo_operator.cluster import Connection, Forbidden, Reply, Trouble
from octavo_operator.commands.gather import missing_right

MODELS, COMPLETION, CHAT, STREAM, READING = "models", "completion", "chat", "stream", "reading"
UNKNOWN_MODEL, INVALID, KEYLESS, REFERENCE = "unknown model", "invalid", "keyless", "reference"

# What a model is made for, as /v1/models says it, and where it is asked for that.
GENERATE, EMBED, SCORE = "generate", "embed", "score"
_READS = {EMBED: "/v1/embeddings", SCORE: "/v1/classify"}

_TOKENS = 32
_PROMPT = "Once upon a time"


@dataclass(frozen=True)
class Trial:
    """`replies`: by what was asked; `troubles`: why what was asked brought none; `task`: what the model is made for."""

    replies: Mapping[str, Reply] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)
    task: str = GENERATE

    def speed(self) -> tuple[float, float] | None:
        """Seconds to the first token of a stream, and its tokens a second; None where there was no stream."""
        reply = self.replies.get(STREAM)
        if reply is None or reply.status != 200:
            return None
        tokens = max((usage.get("completion_tokens", 0) for usage in _usages(reply.text)), default=0)
        return reply.first, (tokens - 1) / max(reply.seconds - reply.first, 1e-9) if tokens > 1 else 0.0

    def streamed(self) -> bool:
        """Whether the stream came in events, to its end."""
        reply = self.replies.get(STREAM)
        return reply is not None and reply.status == 200 and reply.text.rstrip().endswith("data: [DONE]")


async def hold(cluster: Connection, namespace: str, name: str, *, https: bool, api_key: str = "") -> Trial:
    """Asks the service for what its model is made for, one request after another: a service under load is asked
    little."""
    replies: dict[str, Reply] = {}
    troubles: dict[str, str] = {}
    base = kinds.path("Service", namespace, f"{'https:' if https else ''}{name}:http") + "/proxy"
    key = {"x-api-key": api_key} if api_key else {}

    async def ask(what: str, path: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] = key) -> None:
        try:
            replies[what] = await cluster.ask(base + path, body, headers)
        except Forbidden as error:
            troubles[what] = missing_right(error)
        except Trouble as error:
            troubles[what] = str(error)

    await ask(MODELS, "/v1/models")
    model, task = _model(replies.get(MODELS))
    short: dict[str, Any]
    if task in _READS:
        path, short, wrong = _READS[task], {"model": model, "input": _PROMPT}, {"input": -1}
        await ask(READING, path, short)
    else:
        path, wrong = "/v1/completions", {"max_tokens": -1}
        short = {"model": model, "prompt": _PROMPT, "max_tokens": 8, "temperature": 0}
        messages = [{"role": "user", "content": "Say hello."}]
        await ask(COMPLETION, path, short)
        await ask(CHAT, "/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 8})
        usage = {"stream_options": {"include_usage": True}}
        await ask(STREAM, path, short | usage | {"max_tokens": _TOKENS, "stream": True, "ignore_eos": True})
    await ask(UNKNOWN_MODEL, path, short | {"model": "no-such-model"})
    await ask(INVALID, path, short | wrong)
    await ask(KEYLESS, path, short | wrong, {})
    await ask(REFERENCE, "/openapi.json")
    return Trial(replies, troubles, task)


def _model(reply: Reply | None) -> tuple[str, str]:
    """The name of a model that is served, empty where the service did not say, and what that is made for; a server of
    an earlier version knows completions alone."""
    try:
        told = json.loads(reply.text)["data"][0] if reply else {}
        name, task = str(told["id"]), told.get("task")
        return name, task if task in _READS else GENERATE
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", GENERATE


def _usages(text: str) -> list[dict[str, int]]:
    """What the events of a stream say of its tokens."""
    found = []
    for line in text.splitlines():
        if line.startswith("data: {"):
            try:
                found.append(json.loads(line.removeprefix("data: ")).get("usage") or {})
            except ValueError:
                continue
    return found
