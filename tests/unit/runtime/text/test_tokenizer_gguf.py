"""The tokenizers of GGUF files, on files made here: what the metadata says, and what llama.cpp takes where it is
silent."""

import json

import gguf
import pytest

from octavo_runtime.models.loading.files import ModelFiles, locate
from octavo_runtime.text.chat_template import load_chat_template
from octavo_runtime.text.tokenizer import load_tokenizer
from octavo_runtime.text.tokenizer_conversion import prepare, tokenizer_folder
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable
from octavo_runtime.text.tokenizer_gguf import VERSION, VERSION_KEY, build, convert

FIRST_VERSION = ("bos_token", "eos_token", "unk_token", "pad_token", "chat_template")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
BYTES = {chr(letter): NORMAL for letter in range(0x21, 0x7F)} | {"Ġ": NORMAL, "Ċ": NORMAL}
WORDS = ["ĊĊ", "!Ċ", "!ĊĊ", "12", "34", "123", "45", "'S", "<|begin|>", "<|end|>", "<think>", "Ġa"]
MERGES = ["Ċ Ċ", "! Ċ", "1 2", "3 4", "12 3", "4 5", "' S", "Ġ a"]


def words(**fields):
    """The metadata of a byte-level tokenizer."""
    tokens = [*BYTES, *WORDS]
    kinds = {"<|begin|>": CONTROL, "<|end|>": CONTROL, "<think>": USER_DEFINED}
    return _metadata(
        {
            "model": "gpt2",
            "tokens": tokens,
            "token_type": [kinds.get(token, NORMAL) for token in tokens],
            "merges": MERGES,
            "bos_token_id": tokens.index("<|begin|>"),
            "eos_token_id": tokens.index("<|end|>"),
        }
        | fields
    )


def pieces(**fields):
    """The metadata of a tokenizer with scores, which knows `hello`."""
    scored = {
        "<unk>": (UNKNOWN, 0.0), "<s>": (CONTROL, 0.0), "</s>": (CONTROL, 0.0),
        **{f"<0x{byte:02X}>": (BYTE, 0.0) for byte in range(256)},
        "he": (NORMAL, -1.0), "ll": (NORMAL, -2.0), "▁he": (NORMAL, -3.0), "llo": (NORMAL, -4.0),
        "▁hello": (NORMAL, -5.0), "hello": (NORMAL, -6.0), "<tool>": (USER_DEFINED, 0.0),
        **{letter: (NORMAL, -10.0 - number) for number, letter in enumerate("▁ehlo")},
    }  # fmt: skip
    return _metadata(
        {
            "model": "llama",
            "tokens": list(scored),
            "token_type": [kind for kind, _ in scored.values()],
            "scores": [score for _, score in scored.values()],
        }
        | fields
    )


def _metadata(fields):
    return {f"tokenizer.ggml.{name}": value for name, value in fields.items() if value is not None}


def split(metadata, text):
    """The tokens of a text, as the vocabulary spells them."""
    return build(metadata)[0].encode(text).tokens


def write(path, metadata):
    """A GGUF file with that metadata alone."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_string(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return ModelFiles("m", path.parent, path)


def load(folder, metadata):
    """The tokenizer of such a file, converted in this process."""
    made = folder / "made"
    made.mkdir()
    convert(write(folder / "m.gguf", metadata).gguf, made)
    return load_tokenizer(ModelFiles("m", made, None))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("llama-bpe", ["<|begin|>", "!ĊĊ", "123", "45", "'S"]),
        ("smollm", ["!", "ĊĊ", "1", "2", "3", "4", "5", "'", "S"]),
        ("qwen2", ["!", "ĊĊ", "1", "2", "3", "4", "5", "'S"]),
        ("gpt-2", ["!", "Ċ", "Ċ", "12", "34", "5", "'", "S"]),
        (None, ["!", "Ċ", "Ċ", "123", "45", "'", "S"]),
    ],
)
def test_the_files_own_pre_tokenizer_splits(pre, expected):
    """llama-bpe knows `!ĊĊ` as one word, though no merge leads to it."""
    assert split(words(pre=pre), "!\n\n12345'S") == expected


def test_an_unknown_pre_tokenizer_is_refused_by_name(tmp_path):
    files = write(tmp_path / "m.gguf", words(pre="sepia"))
    with pytest.raises(TokenizerUnavailable, match=r"tokenizer\.ggml\.pre must be one of .*llama-bpe.*, got sepia"):
        load_tokenizer(files)


def test_numbered_lists_of_the_builtin_model():
    """The pieces of the model's published tokenizer; `ĊĊ` is 1116."""
    tokenizer = load_tokenizer(locate("builtin://smollm2"))
    assert tokenizer.encode("Steps:\n\n1. Mix.", add_special_tokens=False)[2:5] == [1116, 33, 30]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["<s>", "▁hello"]),
        ({"add_bos_token": True, "add_eos_token": True}, ["<s>", "▁hello", "</s>"]),
        ({"add_bos_token": False}, ["▁hello"]),
        ({"bos_token_id": 2}, ["</s>", "▁hello"]),
        ({"add_space_prefix": False}, ["<s>", "hello"]),
    ],
)
def test_a_tokenizer_with_scores_begins_as_llama_cpp_begins(fields, expected):
    assert split(pieces(**fields), "hello") == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"pre": "gpt-2"}, ["a"]),
        ({"pre": "gpt-2", "add_bos_token": True}, ["<|begin|>", "a"]),
        ({"pre": "gpt-2", "add_eos_token": True}, ["a", "<|end|>"]),
        ({"pre": "tekken"}, ["<|begin|>", "a"]),
        ({"pre": "llama-bpe", "add_bos_token": False}, ["a"]),
        ({"pre": "llama-bpe", "bos_token_id": None}, ["a"]),
    ],
)
def test_a_byte_level_tokenizer_begins_as_llama_cpp_begins(fields, expected):
    assert split(words(**fields), "a") == expected


def test_scores_decide_what_is_merged_first(tmp_path):
    """`he` has a better score than `ll`, and that a better one than `llo`; unknown letters become bytes."""
    tokenizer = load(tmp_path, pieces())
    ids = tokenizer.encode("hello hello é<tool>hello", add_special_tokens=False)
    assert [tokenizer.piece(token) for token in ids] == (
        ["▁hello", "▁hello", "▁", "<0xC3>", "<0xA9>", "<tool>", "▁hello"]
    )
    assert tokenizer.decode(ids) == "hello hello é<tool> hello"
    assert split(pieces(), "hell") == ["<s>", "▁he", "ll"]


def test_tokens_that_users_defined_are_cut_out_and_shown(tmp_path):
    tokenizer = load(tmp_path, words(pre="gpt-2"))
    ids = tokenizer.encode("1<think>2<|end|>", add_special_tokens=False)
    assert [tokenizer.piece(token) for token in ids] == ["1", "<think>", "2", "<|end|>"]
    assert tokenizer.decode(ids) == "1<think>2"


def test_a_file_with_a_single_merge(tmp_path):
    tokenizer = load(tmp_path, words(pre="gpt-2", merges=["1 2"]))
    assert [tokenizer.piece(token) for token in tokenizer.encode("123", add_special_tokens=False)] == ["12", "3"]


def test_a_file_without_token_types_has_its_named_tokens(tmp_path):
    tokenizer = load(tmp_path, words(pre="gpt-2", token_type=None))
    assert tokenizer.decode(tokenizer.encode("1<|end|>", add_special_tokens=False)) == "1"


@pytest.mark.parametrize(
    ("fields", "words_of_it"),
    [
        (words(model="rwkv"), "tokenizer.ggml.model must be gpt2 or llama, got rwkv"),
        (words(tokens=["a", "b", "a"]), "tokenizer.ggml.tokens must differ from each other, got 'a' twice"),
        (words(bos_token_id=4000), r"tokenizer.ggml.bos_token_id must be below \d+, got 4000"),
        (words(merges=None), "tokenizer.ggml.merges must be there"),
        (words(merges=["1 nothing"]), "nothing"),
        (words(token_type=[1, 1]), r"tokenizer.ggml.token_type must have a type for each of \d+ tokens, got 2"),
        (pieces(scores=[1.0]), r"tokenizer.ggml.scores must have a score for each of \d+ tokens"),
    ],
)
def test_broken_metadata_is_refused_in_one_line(tmp_path, fields, words_of_it):
    with pytest.raises(Exception, match=words_of_it) as error:  # the library raises no narrower class
        load(tmp_path, fields)
    assert "\n" not in str(error.value)


def test_several_chat_templates(tmp_path):
    named = {"tokenizer.chat_template": "d", "tokenizer.chat_template.tool_use": "t"}
    load(tmp_path, words(pre="gpt-2") | named)
    template = load_chat_template(ModelFiles("m", tmp_path / "made", None))
    assert template.render([{"role": "user", "content": "a"}]) == "d"


@pytest.mark.parametrize("config", [{VERSION_KEY: VERSION - 1}, dict.fromkeys(FIRST_VERSION)])
def test_what_another_version_laid_beside_the_file_is_converted_again(tmp_path, config):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    files = write(tmp_path / "m.gguf", words(pre="smollm"))
    assert load_tokenizer(files).encode("12", add_special_tokens=False) == [16, 17]
    assert prepare(files) == tmp_path
    assert tokenizer_folder(files) == tmp_path, "what `prepare` writes is of this version"


def test_a_published_tokenizer_beside_the_file_is_taken(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    assert tokenizer_folder(ModelFiles("m", tmp_path, tmp_path / "m.gguf")) == tmp_path
