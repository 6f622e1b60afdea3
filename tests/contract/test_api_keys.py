"""Who has a key is let in, and nobody else; keys come and go while the server runs, and are never shown."""

import hmac
import re
import threading
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from patience import PATIENCE, eventually
from typer.testing import CliRunner

from octavo_runtime.cli.app import app
from octavo_runtime.cli.debug_blocks import fetch
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.server.access.keys import MAX_KEYS, ApiKeys

pytestmark = pytest.mark.slow

ALICE, BOB, CAROL = "alice-key-0123456789", "bob-key-0123456789ab", "carol=key=0123456789=="
OPEN = {"/", "/health", "/health/live", "/health/ready", "/metrics", "/ui/app.js"}
GUARDED = {"/v1/models", "/v1/models/smollm2", "/v1", "/version", "/openapi.json", "/docs", "/debug/blocks", "/health/",
           "/nothing", "//v1/models", "/healthy", "/METRICS", "/ui"}  # fmt: skip
COMPLETION = {"model": "smollm2", "prompt": "hi", "max_tokens": 1}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def status(server, key: str) -> int:
    return httpx.get(f"{server.url}/v1/models", headers=bearer(key), trust_env=False, timeout=PATIENCE).status_code


@pytest.fixture(scope="module")
def guarded(scripted_servers):
    """A server with a key for each of three people."""
    server = scripted_servers("--api-key", f"alice={ALICE}", "--api-key", f"bob={BOB}", "--api-key", f"carol={CAROL}")
    server.wait_ready()
    return server


def test_every_route_but_the_open_ones_asks_for_a_key(guarded):
    with httpx.Client(base_url=guarded.url, trust_env=False, timeout=PATIENCE) as http:
        for path in OPEN:
            assert http.get(path).status_code == 200, path
        published = http.get("/openapi.json", headers=bearer(ALICE)).json()["paths"]
        for path in (GUARDED | published.keys()) - OPEN:
            for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
                response = http.request(method, guarded.url + path.replace("{name}", "smollm2"))
                assert response.status_code == 401, f"{method} {path}"
                assert response.headers["WWW-Authenticate"] == "Bearer"
        error = http.get("/v1/models").json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("authentication_error", "invalid_api_key", None)
        assert "Authorization: Bearer" in error["message"]
        told = http.post("/v1/messages", json={}).json()
        assert (told["type"], told["error"]["type"]) == ("error", "authentication_error")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ALICE},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {ALICE}"},
        bearer(ALICE[:-1]),
        bearer(ALICE + "0"),
        bearer(ALICE.upper()),
        bearer("alice"),
        bearer(f"alice={ALICE}"),
        {"Authorization": f"Bearer wrong-{ALICE}", "x-api-key": ALICE},
        {"x-api-key": ""},
        {"Cookie": f"api_key={ALICE}"},
    ],
)
def test_nothing_else_opens(guarded, headers):
    assert httpx.get(f"{guarded.url}/v1/models", headers=headers, trust_env=False, timeout=PATIENCE).status_code == 401
    assert (
        httpx.get(
            f"{guarded.url}/v1/models?api_key={ALICE}", headers=headers, trust_env=False, timeout=PATIENCE
        ).status_code
        == 401
    )


def test_sdks_get_in(guarded):
    for key in (ALICE, CAROL):
        client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, http_client=httpx.Client(trust_env=False))
        assert client.models.list().data[0].id == "smollm2"
        assert client.completions.create(**COMPLETION).choices[0].text
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(
            base_url=f"{guarded.url}/v1", api_key="wrong", http_client=httpx.Client(trust_env=False)
        ).models.list()
    for header in ({"x-api-key": ALICE}, {"authorization": f"bearer  {ALICE}"}):
        assert (
            httpx.get(f"{guarded.url}/v1/models", headers=header, trust_env=False, timeout=PATIENCE).status_code == 200
        )
    with pytest.raises(anthropic.AuthenticationError, match="a valid API key is required"):
        anthropic.Anthropic(base_url=guarded.url, api_key="wrong").messages.create(
            model="smollm2", max_tokens=1, messages=[{"role": "user", "content": "hi"}]
        )


def test_the_block_map_is_drawn_with_a_key(guarded):
    assert fetch(guarded.url, ALICE).block_size == 16
    with pytest.raises(ValueError, match=r"answered 401: .*a valid API key is required"):
        fetch(guarded.url)


def test_traffic_is_counted_by_the_names_of_keys(guarded):
    with httpx.Client(base_url=guarded.url, trust_env=False, timeout=PATIENCE) as http:
        assert http.post("/v1/completions", json=COMPLETION, headers=bearer(BOB)).status_code == 200
        assert http.post("/v1/completions", json={}, headers=bearer(BOB)).status_code == 400
        assert http.post("/v1/completions", json=COMPLETION).status_code == 401
    assert guarded.metric("octavo_key_requests_total", key="bob", status="200") == 1
    assert guarded.metric("octavo_key_requests_total", key="bob", status="400") == 1
    assert guarded.metric("octavo_key_requests_total", key="", status="401") >= 1
    assert guarded.metric("octavo_key_tokens_total", key="bob", kind="prompt") == 1
    assert guarded.metric("octavo_key_tokens_total", key="bob", kind="generation") == 1


def test_metrics_are_guarded_on_request(start_scripted):
    server = start_scripted("--guard-metrics", OCTAVO_API_KEYS=f"alice={ALICE},{BOB}")
    server.wait_ready()
    metrics = f"{server.url}/metrics"
    assert httpx.get(metrics, trust_env=False, timeout=PATIENCE).status_code == 401
    for key in (ALICE, BOB):
        assert httpx.get(metrics, headers=bearer(key), trust_env=False, timeout=PATIENCE).status_code == 200
    httpx.post(f"{server.url}/v1/completions", json=COMPLETION, headers=bearer(BOB), trust_env=False, timeout=PATIENCE)
    text = httpx.get(metrics, headers=bearer(ALICE), trust_env=False, timeout=PATIENCE).text
    assert re.search(r'octavo_key_requests_total{key="key-[0-9a-f]{8}"', text), "a key without a name"


def test_a_file_of_keys_is_read_again(start_scripted, tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text(f'alice = "{ALICE}"\n')
    server = start_scripted("--api-key-file", str(file))
    complaints: list[str] = []
    threading.Thread(target=complaints.extend, args=(server.process.stderr,), daemon=True).start()
    server.wait_ready()
    assert (status(server, ALICE), status(server, BOB)) == (200, 401)

    file.write_text(f'alice = "{ALICE}"\n[bob]\nkey = "{BOB}"\nrequests_per_minute = 5\n')
    eventually(lambda: status(server, BOB) == 200)

    file.write_text(f'bob = "{BOB}"\n')
    eventually(lambda: status(server, ALICE) == 401)

    file.write_text('bob = "short"\n')
    bound = f"key 1 in {file} must have a key of 16 to 256 printable ASCII characters without spaces, got 5"
    eventually(lambda: any(f"not taken over: api_key_file: {bound}" in line for line in complaints))
    assert (status(server, BOB), status(server, "short")) == (200, 401), "a broken file changes nothing"
    file.unlink()
    eventually(lambda: any(f"cannot read {file}: No such file" in line for line in complaints))
    assert status(server, BOB) == 200
    file.write_text("")
    eventually(lambda: status(server, BOB) == 401)
    printed = "".join(server.log + complaints)
    assert ALICE not in printed
    assert BOB not in printed


def test_a_mounted_secret_is_a_folder_of_keys(start_scripted, tmp_path):
    def mount(version: int, **keys: str) -> None:
        """As the kubelet does: files in a hidden folder, links to them, and one link that is turned over."""
        (tmp_path / f"..{version}").mkdir()
        for name, key in keys.items():
            (tmp_path / f"..{version}" / name).write_text(key)
            if not (tmp_path / name).is_symlink():
                (tmp_path / name).symlink_to(Path("..data") / name)
        (tmp_path / "..new").symlink_to(f"..{version}")
        (tmp_path / "..new").replace(tmp_path / "..data")
        for link in tmp_path.iterdir():
            if link.is_symlink() and not link.exists():
                link.unlink()

    mount(1, alice=ALICE + "\n", **{"more.toml": f'[bob]\nkey = "{BOB}"\nmax_concurrent_requests = 1\n'})
    server = start_scripted("--api-key-file", str(tmp_path))
    server.wait_ready()
    assert (status(server, ALICE), status(server, BOB), status(server, CAROL)) == (200, 200, 401)
    mount(2, alice=CAROL)
    eventually(lambda: (status(server, ALICE), status(server, BOB), status(server, CAROL)) == (401, 401, 200))


@pytest.mark.parametrize(
    ("config", "environment", "words"),
    [
        ({"api_key": ["secret-short"]}, "", r"api_key 1, .* key of 16 to 256 printable ASCII .*, got 12 characters"),
        ({"api_key": ["a=secret-0123456789", "a=secret-short"]}, "", r"api_key 2, which is NAME=KEY or .* 16 to 256"),
        ({"api_key": ["secret with spaces in it"]}, "", "without spaces"),
        ({"api_key": ["secret-" * 40]}, "", "got 280 characters"),
        ({"api_key": ["secret-ümlaut-0123456789"]}, "", "ASCII"),
        ({"api_key": ["secret-0123456789abc=="]}, "", "a KEY without =, must have a key of .*, got 1 characters"),
        ({"api_key": ["secret-0123456789="]}, "", "a KEY without =, must have a key of .*, got 0 characters"),
        ({"api_key": ["secret name=0123456789abcdef"]}, "", "a name of 1 to 64 letters, digits and ._-"),
        ({"api_key": ["anonymous=secret-0123456789"]}, "", "other than anonymous"),
        ({"api_key": ["a=secret-0123456789", "a=secret-9876543210"]}, "", "two keys are called a"),
        ({"api_key": ["a=secret-0123456789"]}, "b=secret-0123456789", "b and a are the same key"),
        ({}, "secret-short", "OCTAVO_API_KEYS 1, .* got 12"),
        ({"api_key": [f"k{n}=secret-0123456789-{n}" for n in range(MAX_KEYS + 1)]}, "", "at most 1000 keys, got 1001"),
        ({"api_key_file": "/nowhere"}, "", "cannot read /nowhere: No such file"),
    ],
)
def test_unusable_keys_are_refused_unseen(config, environment, words):
    with pytest.raises(ValueError, match=words) as refusal:
        ApiKeys(ServerConfig(**config), environment)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"secret-0123456789", "not a file of keys in TOML"),
        (b'"secret-0123456789" = "alice"', "key 1 in"),
        (b'a = 5 # "secret"', "Expected `str | object`, got `int`"),
        (b'[a]\nkey = "secret-0123456789"\nlimit = 5', "(a): holds another field than key, requests_per_minute,"),
        (b'[keys]\n"secret-0123456789" = "alice"', "holds another field than key"),
        (b'[a]\nkey = "secret-0123456789"\nrequests_per_minute = 0', "Expected `int` >= 1"),
        (
            b'b = "secret-0123456789"\n[a]\nkey = "secret-9876543210"\nrequests_per_minute = 0',
            "/keys (a): Expected `int` >= 1 - at `$.requests_per_minute`, got 0",
        ),
        (b'[secret-0123456789]\nkey = "alice"\nrequests_per_minute = 0', "/keys: Expected `int` >= 1"),
        (b'[secret-0123456789]\nrequests_per_minute = "secret"', "/keys: Expected `int | null`, got `str`"),
        (b"[a]\nrequests_per_minute = 5", "missing required field `key`"),
        (b'a = "secret-\xff"', "must be UTF-8, and is not at byte 12"),
        (b"#" * (2**20 + 1), "at most 1048576 bytes"),
    ],
)
def test_unusable_files_are_refused_unseen(tmp_path, content, words):
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(words)) as refusal:
        ApiKeys(ServerConfig(api_key_file=str(tmp_path / "keys")))
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_key_that_is_a_number_is_refused_unseen(tmp_path):
    (tmp_path / "keys").write_text("[a]\nkey = 1234567890123456")
    with pytest.raises(ValueError, match="Expected `str`, got `int`") as refusal:
        ApiKeys(ServerConfig(api_key_file=str(tmp_path / "keys")))
    assert "1234567890123456" not in str(refusal.value)


def test_the_command_line_refuses_in_one_line(monkeypatch):
    from octavo_runtime.cli.app import main

    monkeypatch.setattr("sys.argv", ["octavo", "serve", "builtin://smollm2", "--port", "0", "--api-key", "hush"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "hush" not in CliRunner().invoke(app, ["serve", "m", "--max-body", "x", "--api-key", "hush"]).output
    assert "hush" not in repr(ServerConfig(api_key=["hush"]))


def test_all_keys_are_compared_wherever_the_right_one_stands(monkeypatch):
    keys = ApiKeys(ServerConfig(api_key=[f"k{n}=secret-0123456789-{n}" for n in range(9)]))
    compared = []

    def counted(one, other):
        compared.append(len(one) == len(other) == 32)
        return compare(one, other)

    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counted)
    for presented in (b"secret-0123456789-0", b"secret-0123456789-8", b"", b"wrong"):
        compared.clear()
        found = keys.find(presented)
        assert (found is not None) == presented.startswith(b"secret")
        assert compared == [True] * 9
