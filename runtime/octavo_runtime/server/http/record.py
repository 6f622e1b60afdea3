"""What is known of the HTTP request that is being answered, for its log line and its trace."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from octavo_runtime.protocol import logs


@dataclass
class RequestRecord:
    """Filled in by whoever learns it. Counts are of all prompts and answers of the request together; seconds count from
    its arrival: to the first step and to the first token of any of its prompts. body_bytes, answer_bytes: how large the
    request and its answer are, about, where that is known before. `cut`: what ended the answer from outside. `key`: the
    name of the caller's key, where keys are asked for. `strict`: whether wishes (see generation.wishes) are refused;
    `ignored`: the fields of those that were not. `field_name`: what the client calls a field, by its path, of the chat
    request that its own became."""

    id: str = ""
    method: str = ""
    path: str = ""
    arrival: float = field(default_factory=time.perf_counter)
    status: int | None = None
    model: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)
    scheduled_seconds: float | None = None
    first_token_seconds: float | None = None
    trace_id: str | None = None
    body_bytes: int = 0
    answer_bytes: int = 0
    cut: Exception | None = None
    key: str | None = None
    strict: bool = False
    ignored: list[str] = field(default_factory=list)
    field_name: Callable[[str], str] = str

    def ignore(self, field: str) -> None:
        """A wish in this field of the request was not fulfilled, and the answer is right nevertheless."""
        name = self.field_name(field)
        if name not in self.ignored:
            self.ignored.append(name)

    @property
    def is_probe(self) -> bool:
        """Whether a machine asks how the server is, every few seconds."""
        return self.path == "/metrics" or self.path == "/health" or self.path.startswith("/health/")


_current: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def begin_request(record: RequestRecord) -> None:
    """From here on this task, and those that it starts, answer this request."""
    _current.set(record)
    logs.request_id.set(record.id)


def current_request() -> RequestRecord:
    """The request that this task answers; outside of any, a record that nobody reads."""
    return _current.get() or RequestRecord()
