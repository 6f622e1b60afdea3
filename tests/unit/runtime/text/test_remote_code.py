"""trust_remote_code: nothing of a model folder runs unless it is set, and then only aside, to make a tokenizer."""

import json
import os
from pathlib import Path

import pytest
import tokenizers

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.loading.files import locate
from octavo_runtime.text.chat_template import load_chat_template
from octavo_runtime.text.tokenizer import load_tokenizer
from octavo_runtime.text.tokenizer_conversion import tokenizer_files
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable
from octavo_runtime.worker.device.cpu import cpu_executor

pytestmark = pytest.mark.slow

CODE = """
import os, pathlib
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

pathlib.Path({mark!r}).write_text(str(os.getpid()))

class OwnConfig(LlamaConfig):
    pass

class OwnTokenizer(PreTrainedTokenizerFast):
    def __init__(self, **options):
        made = Tokenizer(models.BPE(vocab={{"</s>": 0, "a": 1, "b": 2, "ab": 3}}, merges=[("a", "b")]))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        options |= {{"tokenizer_object": made, "eos_token": "</s>"}}
        super().__init__(**options)
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder whose configuration points to code of its own, and the mark that the code leaves when it runs."""
    folder, mark = tmp_path / "model", tmp_path / "mark"
    folder.mkdir()
    shape = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 4,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "eos_token_id": 0,
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    named = {"auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}, "chat_template": "{{ messages[0]['content'] }}"}
    (folder / "config.json").write_text(json.dumps(shape))
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return folder, mark


def test_untrusted_code_never_runs(model):
    folder, mark = model
    config, files = EngineConfig(model=str(folder)), locate(str(folder))
    with pytest.raises(TokenizerUnavailable, match=r"no tokenizer\.json in .*; name another tokenizer, or let .* code"):
        tokenizer_files(config, files)
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(folder / "tokenizer.json"))
    assert tokenizer_files(config, files) == files
    load_chat_template(files)
    loaded = EngineConfig(model=str(folder), device="cpu", load_format="dummy", kv_cache_memory="1Mi")
    assert cpu_executor(loaded, files).ready.vocab_size == 4
    assert not mark.exists()


def test_trusted_code_makes_the_tokenizer_once_in_another_process(model):
    pytest.importorskip("transformers")
    folder, mark = model
    config, files = EngineConfig(model=str(folder), trust_remote_code=True), locate(str(folder))
    made = tokenizer_files(config, files)
    assert int(mark.read_text()) != os.getpid()
    assert load_tokenizer(made).encode("abb", add_special_tokens=False) == [3, 2]
    assert load_tokenizer(made).eos_token_ids == (0,)
    assert load_chat_template(made).render([{"role": "user", "content": "hello"}]) == "hello"
    mark.unlink()
    assert tokenizer_files(config, files) == made
    assert not mark.exists(), "the second time it comes from the cache"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "own.py", "tokenizer_config.json"]


def test_another_tokenizer_is_read_where_it_is_named(model, tmp_path):
    folder, mark = model
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(other / "tokenizer.json"))
    config = EngineConfig(model=str(folder), tokenizer=str(other))
    assert tokenizer_files(config, locate(str(folder))).folder == Path(other)
    assert not mark.exists()
