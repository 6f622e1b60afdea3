"""The tokens that end an answer, as a model's files name them. Free of torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.spec import UnsupportedModel

# What transformers takes where a config.json does not say.
_DEFAULT = 2

# llama.cpp (src/llama-vocab.cpp) ends an answer at each token of a GGUF file that is spelled like one of these,
# whatever its type and whatever else the metadata says. Spellings of families that are not served are left out.
_ENDS = frozenset(
    text.encode()
    for text in (
        "</s>",
        "<EOT>",
        "<PAD>",
        "<REPO>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<eos>",
        "<fim-pad>",
        "<fim-repo>",
        "<|end_of_text|>",
        "<|end|>",
        "<|endoftext|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|file_sep|>",
        "<|fim_pad|>",
        "<|fim_repo|>",
        "<|im_end|>",
        "<|repo_name|>",
        "[EOS]",
        "[EOT]",
        "_<EOT>",
    )
)
_NAMED = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"))


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _Definition(msgspec.Struct):
    """What of a tokenizer.json is needed here."""

    added_tokens: list[_AddedToken] = []


_DEFINITIONS = msgspec.json.Decoder(_Definition)


def folder_end_tokens(folder: Path) -> tuple[int, ...]:
    """Those that generation_config.json names, else config.json, and the tokenizer's own eos_token, as in vLLM. Raises
    UnsupportedModel."""
    found: list[int] = []
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            config = read_object(folder / name)
            text = config.get("text_config")  # of a model that sees pictures
            inner = text.get("eos_token_id", _DEFAULT) if isinstance(text, dict) else _DEFAULT
            found = _ids(folder / name, config.get("eos_token_id", inner if name == "config.json" else None))
            if found:
                break
    own = tokenizer_end(folder)
    return tuple(dict.fromkeys(found if own is None else [*found, own]))


def gguf_end_tokens(metadata: Mapping[str, Any], spellings: Iterable[bytes]) -> tuple[int, ...]:
    """Those that the metadata of a GGUF file names, and those that are spelled like one, as in llama.cpp. `spellings`:
    the vocabulary, in the order of the ids."""
    spelled = [token for token, spelling in enumerate(spellings) if spelling in _ENDS]
    named = [metadata[name] for name in _NAMED if isinstance(metadata.get(name), int) and metadata[name] >= 0]
    return tuple(dict.fromkeys([*named, *spelled]))


def _ids(path: Path, value: object) -> list[int]:
    listed: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    for token in listed:
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < 2**31:
            raise UnsupportedModel(f"{path}: eos_token_id must be token ids, got {value!r:.60}")
    return listed


def tokenizer_end(folder: Path) -> int | None:
    """The id of the eos_token of tokenizer_config.json; None where it names none."""
    if not (folder / "tokenizer_config.json").is_file():
        return None
    config = read_object(folder / "tokenizer_config.json")
    named = config.get("eos_token")
    text = named.get("content") if isinstance(named, dict) else named
    if not isinstance(text, str):
        return None
    decoder = config.get("added_tokens_decoder")
    for token, entry in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(entry, dict) and entry.get("content") == text and token.isdecimal():
            return int(token)
    try:
        definition = _DEFINITIONS.decode((folder / "tokenizer.json").read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError):  # the tokenizer's own loading says what is wrong with it
        return None
    return next((token.id for token in definition.added_tokens if token.content == text), None)
