"""The files that may lie beside tokenizer.json, as transformers reads them."""

import json

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.text.chat_template import Conversation, load_chat_template
from octavo_runtime.text.tokenizer import load_tokenizer
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable

MESSAGES = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]
X, USER = {"content": "<|x|>", "special": True}, {"content": "<think>", "special": False, "normalized": False}


@pytest.fixture
def folder(tmp_path):
    """Bytes as tokens, and <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True, normalized=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return ModelFiles("m", folder, None)


CONFIG = "tokenizer_config.json"


@pytest.mark.parametrize(
    "files",
    [
        {CONFIG: {"added_tokens_decoder": {"258": USER, "257": X}}},
        {
            CONFIG: {"added_tokens_decoder": {"257": X}, "bos_token": "<s>"},
            "special_tokens_map.json": {"eos_token": "<q>"},
        },
        {CONFIG: {"bos_token": "<s>"}, "added_tokens.json": {"<think>": 258, "<|x|>": 257}},
        {CONFIG: {"additional_special_tokens": ["<|x|>"]}, "added_tokens.json": {"<think>": 258, "<|x|>": 257}},
        {CONFIG: {"extra_special_tokens": ["<|x|>", "<think>"]}},
        {CONFIG: {"extra_special_tokens": {"image_token": "<|x|>"}}},
        {CONFIG: {"eos_token": {"__type": "AddedToken", "content": "<|x|>", "lstrip": True}, "pad_token": None}},
        {"special_tokens_map.json": {"bos_token": "<s>", "eos_token": {"content": "<|x|>"}}},
        {CONFIG: {"bos_token": "<|x|>"}, "special_tokens_map.json": {"bos_token": "<s>"}},
        {CONFIG: {"bos_token": "<s>", "add_bos_token": True}},
        {},
    ],
)
def test_tokens_equal_transformers(folder, files):
    transformers = pytest.importorskip("transformers")
    ours = load_tokenizer(write(folder, files))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    for text in ("<|x|>a", "a <|x|> <think>b</think>", "<s>hi<q>", "x<s> <|x|>"):
        ids = ours.encode(text, add_special_tokens=True)
        assert ids == theirs(text)["input_ids"], text
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    source = "{{ bos_token }}|{{ eos_token }}|{{ image_token }}|{{ messages[0].content }}"
    write(folder, {"chat_template.jinja": source})
    ours_rendered = load_chat_template(ModelFiles("m", folder, None)).render(MESSAGES)
    assert ours_rendered == theirs.apply_chat_template(MESSAGES, chat_template=source, tokenize=False)


@pytest.mark.parametrize(
    ("files", "plain", "with_tools"),
    [
        ({CONFIG: {"chat_template": "d"}}, "d", "d"),
        ({CONFIG: {"chat_template": {"default": "d", "tool_use": "t"}}}, "d", "t"),
        ({CONFIG: {"chat_template": {"default": "d", "rag": "r"}}}, "d", "d"),
        (
            {CONFIG: {"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}},
            "d",
            "t",
        ),
        ({CONFIG: {"chat_template": "d"}, "chat_template.jinja": "j"}, "j", "j"),
        ({"chat_template.jinja": "j", "additional_chat_templates/tool_use.jinja": "t"}, "j", "t"),
        (
            {"chat_template.jinja": "j", CONFIG: {"chat_template": {"default": "d", "tool_use": "t"}}},
            "j",
            "j",
        ),
    ],
)
def test_templates_equal_transformers(folder, files, plain, with_tools):
    transformers = pytest.importorskip("transformers")
    ours = load_chat_template(write(folder, files))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert ours.render(MESSAGES) == plain == theirs.apply_chat_template(MESSAGES, tokenize=False)
    assert ours.render_conversation(Conversation(MESSAGES, tools=TOOLS)) == with_tools
    assert theirs.apply_chat_template(MESSAGES, tools=TOOLS, tokenize=False) == with_tools


def test_a_template_for_tools_alone_does_not_talk(folder):
    template = load_chat_template(write(folder, {CONFIG: {"chat_template": {"tool_use": "{{ tools | length }}"}}}))
    assert template.render_conversation(Conversation(MESSAGES, tools=TOOLS)) == "1"
    assert template.variables == {"tools"}
    with pytest.raises(InvalidParameter, match="need a chat template"):
        template.render(MESSAGES)


def test_a_tokenizer_without_a_decoder(folder):
    definition = json.loads((folder / "tokenizer.json").read_text())
    files = write(folder, {"tokenizer.json": {**definition, "decoder": None}})
    tokenizer = load_tokenizer(files)
    assert tokenizer.decode(tokenizer.encode("é <s>a", add_special_tokens=False)) == "é a"


def test_a_tokenizer_without_a_decoder_or_a_sign_of_one(folder):
    theirs = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    theirs.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = load_tokenizer(write(folder, {"tokenizer.json": theirs.to_str()}))
    ids = tokenizer.encode("a b  a", add_special_tokens=False)
    assert ids == [0, 1, 0]
    assert tokenizer.decode(ids) == theirs.decode(ids) == "a b a"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({CONFIG: "{"}, r"tokenizer_config\.json: is not JSON"),
        ({CONFIG: "[]"}, r"tokenizer_config\.json: must be an object, got list"),
        ({CONFIG: "[" * 100_000}, r"tokenizer_config\.json: must be nested less deep"),
        ({"generation_config.json": "{"}, r"generation_config\.json: is not JSON"),
        ({"special_tokens_map.json": "x"}, r"special_tokens_map\.json: is not JSON"),
        ({"added_tokens.json": "{'a'"}, r"added_tokens\.json: is not JSON"),
        ({CONFIG: {"bos_token": {"text": "<s>"}}}, r"tokenizer_config\.json: .*token must have a text"),
        ({CONFIG: {"added_tokens_decoder": {"a": X}}}, r"tokenizer_config\.json: added_tokens_decoder"),
        ({CONFIG: {"added_tokens_decoder": [X]}}, r"tokenizer_config\.json: added_tokens_decoder"),
        ({"added_tokens.json": {"<x>": "a"}}, r"added_tokens\.json: must hold ids"),
        ({"tokenizer.json": "{}"}, r"tokenizer\.json: must hold a tokenizer"),
    ],
)
def test_a_broken_file_is_named(folder, files, words):
    with pytest.raises(TokenizerUnavailable, match=words) as error:
        load_tokenizer(write(folder, files))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", [7, ["d"], {"default": 3}, [{"name": "default"}]])
def test_a_broken_template_is_named(folder, source):
    with pytest.raises(TokenizerUnavailable, match=r"tokenizer_config\.json: chat_template must be a text"):
        load_chat_template(write(folder, {CONFIG: {"chat_template": source}}))


def test_a_template_that_is_no_text_is_named(folder):
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerUnavailable, match=r"chat_template\.jinja: not UTF-8 text"):
        load_chat_template(ModelFiles("m", folder, None))
