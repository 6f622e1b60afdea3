"""A service is asked for what its model is made for: a real server's routes refuse all else."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from octavo_operator.cluster import Reply, Trouble
from octavo_operator.commands import trial

Asked = list[tuple[str, dict[str, Any] | None]]


class Server:
    """Answers as a server whose model is made for `task`; None: one that does not say."""

    def __init__(self, task: str | None) -> None:
        self.task = task
        self.asked: Asked = []

    async def ask(
        self, path: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        path = path.partition("/proxy")[2]
        self.asked.append((path, body))
        if path == "/v1/models":
            task = {} if self.task is None else {"task": self.task}
            return Reply(200, json.dumps({"data": [{"id": "m"} | task]}), 0.1, 0.1)
        return Reply(200, "{}", 0.1, 0.1)

    def paths(self) -> set[str]:
        return {path for path, _ in self.asked} - {"/v1/models", "/openapi.json"}


@pytest.mark.parametrize(
    ("task", "paths"),
    [
        ("generate", {"/v1/completions", "/v1/chat/completions"}),
        (None, {"/v1/completions", "/v1/chat/completions"}),
        ("embed", {"/v1/embeddings"}),
        ("score", {"/v1/classify"}),
    ],
)
async def test_a_model_is_asked_for_what_it_is_made_for(task: str | None, paths: set[str]) -> None:
    server = Server(task)
    found = await trial.hold(server, "default", "chat", https=False)  # type: ignore[arg-type]
    assert server.paths() == paths
    assert found.task == (task or "generate")
    assert {body["model"] for _, body in server.asked if body} == {"m", "no-such-model"}


@pytest.mark.parametrize("told", ["", "[]", "7", '{"data": []}', '{"data": [7]}', '{"data": [{"id": "m", "task": 3}]}'])
async def test_a_server_that_tells_nothing_useful_is_asked_for_completions(told: str) -> None:
    class Odd(Server):
        async def ask(
            self, path: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
        ) -> Reply:
            await super().ask(path, body, headers)
            if path.endswith("/openapi.json"):
                raise Trouble("gone")
            return Reply(200, told, 0.1, 0.1)

    server = Odd(None)
    found = await trial.hold(server, "default", "chat", https=False)  # type: ignore[arg-type]
    assert "/v1/completions" in server.paths()
    assert found.troubles == {"reference": "gone"}
