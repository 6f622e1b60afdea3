"""Records what a server answers, one JSON object a line, for test_recorded.py:
record_answers.py URL > recorded/answers.jsonl. The server is scripted_server.py with ARGUMENTS."""

import json
import re
import sys
from typing import Any

import httpx
from event_reader import events
from recorded_cases import Body, cases

ARGUMENTS = ("--reasoning-parser", "think", "--tool-call-parser", "hermes")
_STREAMED = ("reasoning", "stop string", "calls, text between", "call cut", "forced", "error", "refused call")
_TIMES = ("created", "created_at", "completed_at")
_ID = re.compile(r"\b(chatcmpl|cmpl|resp|msg|rs|fc|ctc|call|toolu|req)([-_])[0-9a-f]{16,}")


def ask(url: str, path: str, body: Body) -> dict[str, Any]:
    """A server's answer without what differs from one to the next."""
    sent = json.dumps(body).encode()
    answer = httpx.post(
        url + path, content=sent, headers={"Content-Type": "application/json"}, trust_env=False, timeout=60
    )
    told: dict[str, Any] = {"status": answer.status_code}
    if ignored := answer.headers.get("x-octavo-ignored"):
        told["ignored"] = ignored
    if answer.headers["content-type"].startswith("text/event-stream"):
        told["events"] = [[one.name, one.data] if one.name else one.data for one in events(answer.text)]
    else:
        told["body"] = answer.json()
    return _without_chance(told)


def _without_chance(told: Any) -> Any:
    seen: dict[str, str] = {}

    def numbered(match: re.Match[str]) -> str:
        return seen.setdefault(match[0], f"{match[1]}{match[2]}{len(seen) + 1}")

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: 0 if name in _TIMES and one is not None else walk(one)
                for name, one in value.items()
                if name not in ("system_fingerprint", "request_id")
            }
        if isinstance(value, list):
            return [walk(one) for one in value]
        return _ID.sub(numbered, value) if isinstance(value, str) else value

    return walk(told)


def compact(told: dict[str, Any]) -> dict[str, Any]:
    """The same, of a stream's events only the fields that differ from the event before."""
    before: dict[str, Any] = {}
    found: list[Any] = []
    for event in told.get("events", ()):
        name, data = event if isinstance(event, list) else (None, event)
        if isinstance(data, dict):
            data, before = {key: one for key, one in data.items() if before.get(key, ...) != one}, data
        found.append(data if name is None else [name, data])
    return {**told, "events": found} if found else told


def golden_cases() -> dict[str, tuple[str, Body]]:
    """The errors, the whole answers and a stream of each kind; but few log-probabilities, which are long."""
    return {
        name: (path, body)
        for name, (path, body) in cases().items()
        if name.removesuffix(", streamed").endswith(_STREAMED if name.endswith(", streamed") else "")
        and not (path == "/v1/completions" and re.search("call|forced", name))
        and not name.endswith(("log-probabilities of calls", "token ids", "reasoning hidden", "best_of"))
    }


if __name__ == "__main__":
    for name, (path, body) in golden_cases().items():
        print(
            json.dumps(
                {"case": name, **compact(ask(sys.argv[1], path, body))}, ensure_ascii=False, separators=(",", ":")
            )
        )
