"""The tokenizer against transformers' own, on the model package and on tokenizers made here."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tokenizers
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from octavo_runtime.models.loading.files import ModelFiles, locate
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer
from octavo_runtime.text.tokenizer_conversion import prepare, tokenizer_folder
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable

ODD_TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  leading and trailing  ",
    "def f(x):\n\treturn x ** 2  # 42\n\n\n",
    "naïve café, Ünïcödé, ﬁ ligature",
    "日本語のテキスト、中文、한국어",
    "emoji 👩‍👩‍👧‍👦 🇫🇷 🏳️‍🌈 done",
    "control \x00\x01\x7f \u200b\ufeff\ufffd",
    "1234567890 3.14159  12\n 7",
    "Steps:\n\n1. Mix.\n\n2. Bake for 35 minutes.\n\n\n| a |  12 |\n",
    "a" * 500,
    "<0x41> ▁ Ġ ĊĊ",
]


@pytest.fixture(scope="session")
def smollm2() -> Tokenizer:
    return load_tokenizer(locate("builtin://smollm2"))


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_ids_and_text_equal_transformers(smollm2, reference, text):
    ids = smollm2.encode(text, add_special_tokens=True, allow_special=True)
    assert ids == reference(text)["input_ids"]
    assert smollm2.decode(ids) == reference.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_other_threads_run_while_a_long_text_is_encoded(smollm2):
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    smollm2.encode("The quick brown fox jumps over the lazy dog. " * 40_000, add_special_tokens=False)
    took = time.monotonic() - began
    done.set()
    thread.join()
    assert sum(began < tick < began + took for tick in ticks) >= 10, "hundreds of them, and none where it held them up"


def test_special_tokens_of_the_gguf_file(smollm2):
    assert smollm2.special_tokens["eos_token"] == "<|im_end|>"
    assert smollm2.special_tokens["bos_token"] == "<|im_start|>"
    assert smollm2.eos_token_ids[0] == 2
    assert smollm2.vocab_size == 49152


def test_special_strings_are_special_only_where_allowed(smollm2):
    text = "a<|im_end|>b"
    assert 2 in smollm2.encode(text, add_special_tokens=False, allow_special=True)
    plain = smollm2.encode(text, add_special_tokens=False, allow_special=False)
    guarded = smollm2.encode(smollm2.guard(text), add_special_tokens=False, allow_special=True)
    assert plain == guarded
    assert not smollm2.special_ids & set(plain)
    assert smollm2.decode(plain, skip_special_tokens=False) == text


def test_decode_shows_or_skips_special_tokens(smollm2):
    ids = smollm2.encode("a<|im_end|>b", add_special_tokens=False, allow_special=True)
    assert smollm2.decode(ids, skip_special_tokens=False) == "a<|im_end|>b"
    assert smollm2.decode(ids) == "ab"


def test_unknown_ids_decode_to_nothing(smollm2):
    assert smollm2.decode([49152, 10**9, -1]) == ""


@given(text=st.text())
def test_any_text_comes_back(smollm2, text):
    for allowed in (True, False):
        ids = smollm2.encode(text, add_special_tokens=False, allow_special=allowed)
        assume(0 not in ids)  # this vocabulary lacks some bytes; they become <|endoftext|>, in transformers too
        assert smollm2.decode(ids, skip_special_tokens=False) == text


def _sentencepiece_like(prepend_scheme: str) -> tuple[tokenizers.Tokenizer, Tokenizer]:
    """A Llama-2-shaped tokenizer (BPE with byte fallback and ▁ for spaces), and ours made from it."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *"abcdehlo</s>",
        "▁a",
        "</",
        "s>",
    ]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, "he", "ll", "hell", "hello"]))}
    merges = [("▁", "a"), ("<", "/"), ("s", ">"), ("</", "s>"), ("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o")]
    theirs = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    theirs.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    theirs.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    theirs.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return theirs, Tokenizer(json.loads(theirs.to_str()), {"bos_token": "<s>", "eos_token": "</s>"}, [])


@pytest.mark.parametrize("prepend_scheme", ["always", "first", "never"])
@pytest.mark.parametrize("text", ["hello", " hello a", "a</s>hello<s> a", "é 日 hello", "", "</s>", "x<s>"])
def test_sentencepiece_like_ids_equal_the_library(prepend_scheme, text):
    theirs, ours = _sentencepiece_like(prepend_scheme)
    ids = ours.encode(text, add_special_tokens=True, allow_special=True)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids)


def test_merges_never_build_a_special_token_from_text():
    theirs, ours = _sentencepiece_like("first")
    theirs.encode_special_tokens = True
    assert 2 in theirs.encode("a</s>").ids, "the library alone would build </s> by merging"
    ids = ours.encode("a</s>", add_special_tokens=False, allow_special=False)
    assert not ours.special_ids & set(ids)
    assert ours.decode(ids) == "a</s>"


def test_normalised_text_keeps_its_special_tokens():
    theirs = tokenizers.Tokenizer(
        models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("▁a", -1.0), ("▁", -2.0), ("b", -2.0)], 0)
    )
    theirs.normalizer = normalizers.NFKC()
    theirs.pre_tokenizer = pre_tokenizers.Metaspace()
    theirs.decoder = decoders.Metaspace()
    theirs.add_special_tokens(["<unk>", "</s>"])
    ours = Tokenizer(json.loads(theirs.to_str()), {"eos_token": "</s>"}, [])
    assert ours.eos_token_ids == (1,)
    ids = ours.encode("\uff41 b</s>a", add_special_tokens=False, allow_special=True)
    assert ids == theirs.encode("\uff41 b</s>a").ids
    assert ours.decode(ids) == theirs.decode(ids)


def test_end_of_sequence_from_generation_config(tmp_path: Path):
    source = tokenizer_folder(locate("builtin://smollm2"))
    (tmp_path / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|im_end|>"}}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    assert load_tokenizer(ModelFiles("m", tmp_path, None)).eos_token_ids == (0, 2)


_PANICS = (  # the library's template of special tokens, for one that it does not name
    '{"added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "b"}, '
    '"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "", "type_id": 0}}], '
    '"pair": [], "special_tokens": {"b": {"id": "b", "ids": [1], "tokens": ["b"]}}}}'
)
_NOTHING_FOR_UNKNOWN = '{"added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"}}'


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "{}",
        '{"added_tokens": [], "model": {"vocab": {}}, "decoder": null}',
        '{"added_tokens": [], "model": {"vocab": "x"}}',
        '{"added_tokens": [{"id": NaN, "content": "a", "special": true}], "model": {"vocab": {}}}',
        '{"added_tokens": [{"id": 0, "content": "\\ud800", "special": true}], "model": {"vocab": {}}}',
        _NOTHING_FOR_UNKNOWN,
        _PANICS,
    ],
)
def test_bad_tokenizer_is_one_line(tmp_path: Path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerUnavailable, match=r"tokenizer\.json") as error:
        load_tokenizer(ModelFiles("m", tmp_path, None))
    assert "\n" not in str(error.value)


def test_a_broken_gguf_file_is_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m.gguf").write_bytes(b"GGUF nonsense")
    with pytest.raises(TokenizerUnavailable, match="cannot be converted") as error:
        load_tokenizer(ModelFiles("m", tmp_path, tmp_path / "m.gguf"))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache" / "tokenizers").iterdir()), "a failed conversion leaves nothing behind"


def test_prepare_writes_beside_the_file_once(tmp_path: Path):
    source = locate("builtin://smollm2")
    gguf = tmp_path / source.gguf.name
    gguf.symlink_to(source.gguf)
    files = ModelFiles("m", tmp_path, gguf)
    assert prepare(files) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {
        gguf.name, "tokenizer.json", "tokenizer_config.json", "generation_config.json"
    }  # fmt: skip
    before = (tmp_path / "tokenizer.json").stat().st_mtime_ns
    prepare(files)
    assert (tmp_path / "tokenizer.json").stat().st_mtime_ns == before
    assert load_tokenizer(files).eos_token_ids == (2, 0), "<|endoftext|> ends an answer too, as in llama.cpp"


def test_the_api_process_needs_neither_torch_nor_transformers():
    code = (
        "import sys, octavo_runtime.server.serve, octavo_runtime.text.chat_template, octavo_runtime.text.detokenizer\n"
        "print([name for name in ('torch', 'transformers', 'gguf', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[]"
