"""A web page that makes its own name mean this machine does not reach a server that asks for no keys."""

import httpx
import pytest
from patience import PATIENCE

pytestmark = pytest.mark.slow

COMPLETION = {"model": "smollm2", "prompt": "hi", "max_tokens": 1}


def ask(server, host: str, path: str = "/v1/completions", **headers: str) -> httpx.Response:
    return httpx.post(
        server.url + path, json=COMPLETION, headers={"Host": host, **headers}, trust_env=False, timeout=PATIENCE
    )


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", "a"])
def test_foreign_names_are_refused(scripted, host):
    response = ask(scripted, host, Origin=f"http://{host}")
    assert response.status_code == 403
    error = response.json()["error"]
    assert error["code"] == "host_not_allowed"
    assert "--allowed-host" in error["message"]
    assert host.partition(":")[0] in error["message"]
    for path in ("/", "/health", "/metrics", "/v1/models", "/nothing"):
        assert (
            httpx.get(scripted.url + path, headers={"Host": host}, trust_env=False, timeout=PATIENCE).status_code == 403
        )
    told = ask(scripted, host, "/v1/messages").json()
    assert (told["type"], told["error"]["type"]) == ("error", "permission_error")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "localhost.",
        "chat.localhost",
        "127.0.0.1",
        "127.0.0.2:80",
        "[::1]:8000",
        "10.0.0.7",
    ],
)
def test_this_machines_own_names_are_not(scripted, host):
    assert ask(scripted, host).status_code == 200


def test_names_may_be_allowed(scripted_servers):
    server = scripted_servers("--allowed-host", "LLM.example.com", "--allowed-host", "other.example")
    server.wait_ready()
    assert ask(server, "llm.example.com:8000").status_code == 200
    assert ask(server, "other.example").status_code == 200
    assert ask(server, "evil.example").status_code == 403


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--allowed-host", "*"], 200),
        (["--api-key", "a=0123456789abcdef"], 401),
        (["--host", "0.0.0.0"], 200),
    ],
    ids=["any", "keys", "network"],
)
def test_where_names_do_not_matter(scripted_servers, arguments, status):
    """With keys a page has none to send; on a network others call the server by names of their own."""
    server = scripted_servers(*arguments)
    server.wait_ready()
    assert ask(server, "evil.example").status_code == status
