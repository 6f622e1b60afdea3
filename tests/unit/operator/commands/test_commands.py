"""The `octavo` command finds what the operator brings to it, and ends in one line where it cannot work."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
GROUP = "octavo.commands"
POINTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]


@pytest.fixture
def octavo(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs the command with this tree's entry points, whatever is installed."""
    folder = tmp_path / "octavo_commands-0.dist-info"
    folder.mkdir()
    lines = [f"{name} = {target}" for name, target in POINTS.items()]
    (folder / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")
    path = [str(tmp_path), *(str(ROOT / room) for room in ("operator", "runtime", "kernels"))]

    def run(*words: str, hidden: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        program = (
            "import sys\n"
            f"sys.modules.update(dict.fromkeys({hidden.split()!r}))\n"
            f"sys.argv = ['octavo', *{list(words)!r}]\n"
            "from octavo_runtime.cli.app import main\n"
            "main()\n"
        )
        clean = os.environ | {"PYTHONPATH": os.pathsep.join(path), "KUBECONFIG": "/nonexistent"} | environment
        return subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True)

    return run


def test_every_entry_point_is_there() -> None:
    assert POINTS.keys() == {"bundle", "check", "why"}
    for target in POINTS.values():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))


def test_help_shows_the_commands_without_the_kubernetes_client(octavo) -> None:  # type: ignore[no-untyped-def]
    done = octavo("--help", hidden="kubernetes")
    assert done.returncode == 0, done.stderr
    for name in (*POINTS, "serve"):
        assert f" {name} " in done.stdout


@pytest.mark.parametrize("command", POINTS)
def test_without_the_kubernetes_client_one_line_says_what_to_install(octavo, command: str) -> None:  # type: ignore[no-untyped-def]
    done = octavo(command, "chat", hidden="kubernetes kubernetes.aio")
    assert done.returncode == 2
    assert done.stderr == f"octavo: octavo {command} needs kubernetes: pip install 'octavo[cluster]'\n"


@pytest.mark.parametrize("command", POINTS)
def test_without_a_cluster_there_is_one_line(octavo, command: str) -> None:  # type: ignore[no-untyped-def]
    done = octavo(command, "chat")
    assert done.returncode == 2
    assert done.stderr == "octavo: no cluster: kubeconfig cannot be used: /nonexistent: no such file\n"


_CLUSTER = "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("root:x:0:0\nsync:x:4\n", ": must be a YAML object with clusters, users and contexts, and is none"),
        ("", ": must be a YAML object"),
        ("[1]", ": must be a YAML object"),
        ("clusters: []\na: [1\n", ": is no YAML, line 3"),
        (b"\xff\xfe\x00", ": is no YAML"),
        ("clusters: []\ncontexts: []\nusers: []\n", "Expected key current-context in"),
        ("current-context: a\nclusters: []\ncontexts: []\nusers: []\n", "Expected object with name a in"),
        (_CLUSTER + "clusters: [{name: c, cluster: {server: 17}}]\n", ": a field is missing, or of another type"),
        (_CLUSTER + "clusters: 17\n", ": a field is missing, or of another type"),
        (
            _CLUSTER + 'clusters: [{name: c, cluster: {server: "https://a", certificate-authority-data: "!!!!"}}]\n',
            "no certificate or crl found",
        ),
        (None, ": Is a directory"),
    ],
    ids=lambda value: "",
)
def test_what_is_no_kubeconfig_is_named(octavo, tmp_path: Path, content: str | bytes | None, said: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "config"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    done = octavo("why", "chat", KUBECONFIG=str(path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"octavo: no cluster: kubeconfig cannot be used: {path}: ")
    assert said in done.stderr
    assert "root:x" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["why", "chat", "--context=none"], "--context: kubeconfig has no usable 'none'"),
        (["why", "chat", "--for=1h"], "--for: must be from 1s to 10m, got '1h'"),
        (["why", "chat", "--for=soon"], "soon"),
        (["why"], "Missing argument 'service'"),
        (["check", "chat", "-o", "xml"], "'xml' is not one of 'table', 'json'"),
    ],
)
def test_a_wrong_word_is_named(octavo, words: list[str], said: str) -> None:  # type: ignore[no-untyped-def]
    done = octavo(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_of_what_pods_need_nothing_is_asked_for(octavo) -> None:  # type: ignore[no-untyped-def]
    hidden = "torch transformers numpy fastapi uvicorn zmq msgspec llguidance tokenizers safetensors gguf openai kopf"
    done = octavo("why", "chat", hidden=hidden)
    assert done.stderr.startswith("octavo: no cluster"), done.stderr


def test_serving_does_not_look_for_other_commands(octavo) -> None:  # type: ignore[no-untyped-def]
    """To look takes time, and what others installed could break the start of a pod."""
    done = octavo("serve", "--help", hidden="octavo_operator.commands.app")
    assert done.returncode == 0, done.stderr
