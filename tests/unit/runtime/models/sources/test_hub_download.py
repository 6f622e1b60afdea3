"""`octavo download hf://...`, as a process, from a stand-in for the hub."""

import json
import os
import subprocess
import sys

import pytest
from patience import PATIENCE, eventually

from octavo_runtime.models.loading.files import locate
from octavo_runtime.planning.builtin_models import BUILTIN_DESCRIPTIONS

SHA = "0123456789abcdef0123456789abcdef01234567"


def start(hub, root, model="hf://acme/tiny", *options, **environment):
    return command(hub, root, "download", model, "--to", str(root), *options, **environment)


def command(hub, root, *words, **environment):
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and key != "HF_TOKEN"}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(root / "home"), **environment}
    words = [sys.executable, "-m", "octavo_runtime", *words]
    return subprocess.Popen(words, env=kept | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err, err
    return process.returncode, out.strip(), err.strip().splitlines()[-1] if err.strip() else ""


def folders(root):
    return [path for path in root.glob("hf-acme-tiny-*/*/*") if path.is_dir()]


def test_what_serving_needs_comes_into_a_folder_of_its_revision_once(hub, tmp_path):
    code, out, _ = finished(start(hub, tmp_path))
    (folder,) = folders(tmp_path)
    assert (code, out) == (0, str(folder))
    assert (folder.name, folder.parent.name) == ("tiny", SHA)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert locate(str(folder)).name == "tiny"
    hub.asked.clear()
    assert finished(start(hub, tmp_path))[:2] == (0, out)
    assert hub.asked == [], "the second time nothing is downloaded"
    assert finished(start(hub, tmp_path, "acme/tiny"))[:2] == (0, out), "a name without a scheme is the hub's"


def test_modules_behind_the_model_stay_in_folders_of_their_own(hub, tmp_path):
    """Their files have the names of the model's own."""
    modules = {"modules.json": b"[]", "1_Pooling/config.json": b"{  }", "2_Dense/model.safetensors": b"dense"}
    hub.files = {**modules, **hub.files}
    assert finished(start(hub, tmp_path))[0] == 0
    (folder,) = folders(tmp_path)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {name: content for name, content in hub.files.items() if name != "a.bin"}


def test_a_killed_download_goes_on_where_it_was(hub, tmp_path):
    hub.pause = 0.2
    process = start(hub, tmp_path)
    part = eventually(lambda: next(tmp_path.glob("*/*/*.partial/model.safetensors.part"), None), "a part")
    eventually(lambda: part.stat().st_size, "some bytes")
    process.kill()
    process.communicate()
    had = part.stat().st_size
    assert 0 < had < len(hub.files["model.safetensors"])
    assert [folder.suffix for folder in folders(tmp_path)] == [".partial"], "no reader takes it for a model"
    hub.pause = 0
    hub.asked.clear()
    assert finished(start(hub, tmp_path))[0] == 0
    assert ("model.safetensors", f"bytes={had}-") in hub.asked
    (folder,) = folders(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_what_a_former_run_left_of_another_content_is_fetched_anew(hub, tmp_path):
    finished(start(hub, tmp_path))
    (folder,) = folders(tmp_path)
    partial = folder.rename(folder.with_name("tiny.partial"))
    (partial / "model.safetensors").unlink()
    (partial / "model.safetensors.part").write_bytes(b"other bytes")
    assert finished(start(hub, tmp_path))[0] == 0
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_content_of_another_hash_is_refused(hub, tmp_path):
    hub.claimed = "0" * 64
    code, out, said = finished(start(hub, tmp_path))
    assert (code, out) == (2, "")
    assert "model.safetensors is not what was published: its sha256 hash is" in said
    assert [folder.suffix for folder in folders(tmp_path)] == [".partial"]


def test_a_hub_that_asks_for_patience_gets_it(hub, tmp_path):
    hub.answers = [429, 503]
    assert finished(start(hub, tmp_path))[0] == 0
    assert [name for name, _ in hub.asked].count("model.safetensors") == 3


def test_a_missing_token_and_a_wrong_one_are_told_in_one_line(hub, tmp_path):
    hub.token = "secret"
    code, _, said = finished(start(hub, tmp_path))
    assert code == 2
    assert "no permission to read acme/tiny (HTTP 401)" in said
    assert "spec.model.tokenSecret" in said
    assert "was refused" not in said
    code, _, said = finished(start(hub, tmp_path, HF_TOKEN="wrong"))
    assert (code, "(HTTP 401); the token that was given was refused: " in said) == (2, True)
    assert finished(start(hub, tmp_path, HF_TOKEN="secret"))[0] == 0


def test_a_model_that_cannot_be_served_is_refused_before_its_weights_come(hub, tmp_path):
    hub.files["config.json"] = b'{"architectures": ["NobodysModel"]}'
    result = tmp_path / "result.json"
    process = start(hub, tmp_path / "models", "hf://acme/tiny", "--result", str(result))
    code, out, said = finished(process)
    assert (code, out) == (2, "")
    assert "architecture must be one of" in said
    assert "got NobodysModel" in json.loads(result.read_text())["problem"]
    assert "model.safetensors" not in [name for name, _ in hub.asked]


@pytest.mark.parametrize("model", ["hf://acme/tiny", "hf://acme/tiny/tiny.gguf"])
def test_a_gguf_file_is_what_it_says_itself(hub, tmp_path, model):
    """Whatever config.json beside it says."""
    hub.files = {"config.json": b'{"architectures": ["NobodysModel"]}', "tiny.gguf": b"GGUF"}
    assert finished(start(hub, tmp_path, model))[0] == 0
    (folder,) = folders(tmp_path) or [path for path in tmp_path.glob("hf-*/*/*") if path.is_dir()]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "tiny.gguf"]


def test_a_gguf_file_that_was_downloaded_is_served_and_described_whatever_lies_beside_it(hub, tmp_path):
    content = locate("builtin://smollm2").gguf.read_bytes()
    hub.files = {"config.json": hub.files["config.json"], "tiny.gguf": content}
    assert finished(start(hub, tmp_path, "hf://acme/tiny", "--result", str(tmp_path / "result.json")))[0] == 0
    (folder,) = folders(tmp_path)
    assert locate(str(folder)).gguf == folder / "tiny.gguf"
    assert json.loads((tmp_path / "result.json").read_text())["description"] == BUILTIN_DESCRIPTIONS["smollm2"]


@pytest.mark.parametrize("model", ["hf://acme/tiny", "acme/tiny", "hf://acme/tiny/q4/tiny.gguf"])
@pytest.mark.parametrize("beside", [{}, {"config.json": b'{"architectures": ["NobodysModel"]}'}])
def test_a_gguf_file_is_described_by_its_header_alone(hub, tmp_path, model, beside):
    content = locate("builtin://smollm2").gguf.read_bytes()
    hub.files = {**beside, "q4/tiny.gguf": content}
    described = command(hub, tmp_path, "describe", model)
    assert finished(described)[:2] == (0, BUILTIN_DESCRIPTIONS["smollm2"])
    assert hub.sent < len(content) / 2


def test_a_hub_that_is_busy_for_a_moment_is_asked_again_for_a_header_and_no_weights_come(hub, tmp_path):
    content = locate("builtin://smollm2").gguf.read_bytes()
    hub.files, hub.refusals = {"tiny.gguf": content}, [503]
    described = command(hub, tmp_path, "describe", "hf://acme/tiny/tiny.gguf")
    assert finished(described)[:2] == (0, BUILTIN_DESCRIPTIONS["smollm2"])
    assert hub.sent < len(content) / 2


@pytest.mark.parametrize("model", ["hf://acme/tiny", "hf://acme/tiny/tiny.gguf"])
def test_a_model_in_the_cache_is_described_offline(hub, tmp_path, model):
    cached = tmp_path / "home" / "hub" / "models--acme--tiny"
    folder = cached / "snapshots" / SHA
    folder.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(SHA)
    (folder / "tiny.gguf").symlink_to(locate("builtin://smollm2").gguf)
    described = command(hub, tmp_path, "describe", model, HF_HUB_OFFLINE="1")
    assert finished(described)[:2] == (0, BUILTIN_DESCRIPTIONS["smollm2"])
    assert finished(start(hub, tmp_path, model, HF_HUB_OFFLINE="1"))[0] == 2, "what is downloaded is no cache"


def test_of_several_gguf_files_one_must_be_named_to_be_described(hub, tmp_path):
    hub.files = {"config.json": hub.files["config.json"], "a.gguf": b"GGUF", "b.gguf": b"GGUF"}
    code, _, said = finished(command(hub, tmp_path, "describe", "hf://acme/tiny"))
    assert code == 2
    assert "hf://acme/tiny has 2 GGUF models; name one, such as hf://acme/tiny/a.gguf" in said


@pytest.mark.parametrize(
    "about",
    [
        b"<html>Sign in to the network</html>",
        b"[]",
        b"{}",
        b'{"id": "acme/tiny", "sha": "0", "siblings": [3]}',
        b'{"id": "acme/tiny", "sha": "../../..", "siblings": []}',
    ],
)
def test_what_is_no_answer_of_the_hubs_is_one_line(hub, tmp_path, about):
    hub.about = about
    code, _, said = finished(start(hub, tmp_path))
    line = f"what answers at {hub.url} for hf://acme/tiny is not the hub; see HF_ENDPOINT and proxies"
    assert (code, said) == (2, f"octavo: model: {line}")
    assert finished(command(hub, tmp_path, "describe", "hf://acme/tiny"))[0] == 2


@pytest.mark.parametrize(
    ("model", "variable", "like"),
    [
        ("hf://acme/tiny", "HF_ENDPOINT", "https://huggingface.co"),
        ("oci://registry/tiny:1", "OCTAVO_OCI_ENDPOINT", "http://registry:5000"),
    ],
)
def test_an_endpoint_that_is_no_url_is_named_at_once(hub, tmp_path, model, variable, like):
    code, _, said = finished(start(hub, tmp_path, model, **{variable: "hub.example"}))
    assert (code, said) == (2, f"octavo: {variable}: must be a URL such as {like}, got 'hub.example'")


def test_a_hub_that_refuses_to_tell_a_size_is_no_trouble_with_a_folder(hub, tmp_path):
    hub.tells_sizes = False
    code, _, said = finished(command(hub, tmp_path, "describe", "hf://acme/tiny"))
    assert code == 2
    assert said.startswith("octavo: model: no permission to read acme/tiny (HTTP 403)")


def test_a_token_that_cannot_be_sent_is_told_as_such(hub, tmp_path):
    words = (
        "octavo: model: the token must be of ASCII characters; see HF_TOKEN (spec.model.tokenSecret in an LLMService)"
    )
    for process in (
        start(hub, tmp_path, HF_TOKEN="hf_\u00e4"),
        command(hub, tmp_path, "describe", "hf://acme/tiny", HF_TOKEN="hf_\u00e4"),
    ):
        code, _, said = finished(process)
        assert (code, said) == (2, words)


def test_a_run_that_ends_before_the_download_leaves_no_result(hub, tmp_path):
    results = [tmp_path / "new.json", tmp_path / "old.json"]
    results[1].touch()
    for result in results:
        taken = ["--result", str(result), "--progress-port", str(hub.server_port)]
        code, _, said = finished(start(hub, tmp_path, "hf://acme/tiny", *taken))
        assert (code, said) == (2, "octavo: Address already in use")
    assert [result.exists() for result in results] == [False, True]


def test_two_at_once_download_once(hub, tmp_path):
    hub.pause = 0.05
    both = [start(hub, tmp_path), start(hub, tmp_path)]
    assert [finished(process)[0] for process in both] == [0, 0]
    assert sorted(name for name, _ in hub.asked) == ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize("model", ["file:///a", "builtin://smollm2", "hf://one", "nothing"])
def test_what_cannot_be_downloaded_is_refused(hub, tmp_path, model):
    code, _, said = finished(start(hub, tmp_path, model))
    assert code == 2
    assert said.startswith("octavo: model: ")
