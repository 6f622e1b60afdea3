"""What the connection makes of the API server's answers."""

from typing import Any

import pytest
from kubernetes.aio.client import ApiClient

from octavo_operator.cluster import Connection

NODES = [
    {
        "metadata": {"name": f"n{number}", "labels": {"gpu": str(number)}},
        "spec": {"taints": [{"key": "a"}]} if number else {},
        "status": {"images": ["long"]},
    }
    for number in range(5)
]


class Paged(Connection):
    """An API server with five nodes."""

    def __init__(self, api: ApiClient) -> None:
        super().__init__(api)
        self.asked = 0

    async def _request(self, method: str, path: str, **parameters: Any) -> dict[str, Any] | None:
        assert (method, path, parameters["label_selector"]) == ("get", "/api/v1/nodes", "gpu")
        self.asked += 1
        start = int(parameters["_continue"] or 0)
        end = start + parameters["limit"]
        metadata = {"continue": str(end)} if end < len(NODES) else {}
        return {"metadata": metadata, "items": NODES[start:end]}


async def test_nodes_come_in_pages_without_what_nobody_needs_and_are_asked_for_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("octavo_operator.cluster.connection._PAGE", 2)
    async with ApiClient() as api:
        connection = Paged(api)
        found = await connection.nodes("gpu")
        assert [node["metadata"]["labels"]["gpu"] for node in found] == ["0", "1", "2", "3", "4"]
        assert [node["spec"]["taints"] for node in found[:2]] == [[], [{"key": "a"}]]
        assert all("status" not in node for node in found)
        assert connection.asked == 3
        assert await connection.nodes("gpu") == found
        assert connection.asked == 3, "all services ask for the same"
        monkeypatch.setattr("octavo_operator.cluster.connection.NODES_HOLD", 0.0)
        await connection.nodes("gpu")
        assert connection.asked == 6
