"""The files of a tokenizer's folder, read as transformers reads them: tokenizer.json and what may lie beside it, which
are tokenizer_config.json, special_tokens_map.json, added_tokens.json, chat_template.jinja and
additional_chat_templates/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from octavo_runtime.models.loading.json_file import read_object

_CONFIG = "tokenizer_config.json"


class TokenizerUnavailable(ValueError):
    """The model has no tokenizer that can be used. One line for a person."""


def read_if_there(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file. Raises TokenizerUnavailable, which names it."""
    return read_object(path, TokenizerUnavailable) if path.is_file() else {}


def read_special_tokens(folder: Path) -> dict[str, str]:
    """The named tokens, which a chat template may ask for: {"bos_token": "<s>", ...}."""
    return {name: token["content"] for name, token in _named(folder).items()}


def read_definition(folder: Path) -> dict[str, Any]:
    """tokenizer.json, its list of added tokens completed by those that only the files beside it name. Raises
    TokenizerUnavailable."""
    path = folder / "tokenizer.json"
    definition = read_if_there(path)
    if not definition:
        raise TokenizerUnavailable(f"{path}: must hold a tokenizer, and there is none")
    try:
        added = list(definition.get("added_tokens") or [])
        known = {token["content"] for token in added}
        vocabulary = _vocabulary(definition["model"])
        following = max([len(vocabulary), *(token["id"] + 1 for token in added)])
        for token in _beside(folder):
            if token["content"] not in known:
                known.add(token["content"])
                number = vocabulary.get(token["content"], following)
                following = max(following, number + 1)
                added.append(token | {"id": number})
        added.sort(key=lambda token: int(token["id"]))
    except TokenizerUnavailable:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TokenizerUnavailable(f"{path}: not a tokenizer.json: {_reason(error)}") from None
    return definition | {"added_tokens": added}


def read_chat_templates(folder: Path) -> dict[str, str]:
    """The Jinja templates by name: `default`, and perhaps `tool_use` for conversations that offer tools. Files go
    before those in tokenizer_config.json."""
    path = folder / _CONFIG
    alone, more = folder / "chat_template.jinja", sorted((folder / "additional_chat_templates").glob("*.jinja"))
    files = {file.stem: _text(file) for file in more} | ({"default": _text(alone)} if alone.is_file() else {})
    if files:
        return files
    source = read_if_there(path).get("chat_template")
    if source is None:
        return {}
    if isinstance(source, str):
        return {"default": source}
    try:
        named = source if isinstance(source, dict) else {entry["name"]: entry["template"] for entry in source}
    except (KeyError, TypeError):
        named = {"": None}
    if not all(isinstance(template, str) for template in named.values()):
        raise TokenizerUnavailable(f"{path}: chat_template must be a text, or texts by name, got {source!r:.100}")
    return named


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerUnavailable(f"{path}: not UTF-8 text: {error}") from None


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    vocab = model["vocab"]
    return vocab if isinstance(vocab, dict) else {piece: number for number, (piece, _) in enumerate(vocab)}


def _named(folder: Path) -> dict[str, dict[str, Any]]:
    """The named special tokens as added tokens."""
    config, extra = _configured(folder)
    found = {name: value for name, value in config.items() if name.endswith("_token") and isinstance(value, str | dict)}
    return {
        name: _special(value, folder) for name, value in (found | (extra if isinstance(extra, dict) else {})).items()
    }


def _beside(folder: Path) -> Iterator[dict[str, Any]]:
    """The tokens that the files beside tokenizer.json name, in the order in which transformers adds them."""
    config, extra = _configured(folder)
    named = _named(folder).values()
    extras = [_special(token, folder) for token in extra] if isinstance(extra, list) else []
    if "added_tokens_decoder" in config:
        listed = config["added_tokens_decoder"]
        if not isinstance(listed, dict) or not all(number.isdecimal() for number in listed):
            raise TokenizerUnavailable(f"{folder / _CONFIG}: added_tokens_decoder must hold tokens by id")
        yield from (_token(listed[number], folder) for number in sorted(listed, key=int))
    else:
        path = folder / "added_tokens.json"
        ids = read_if_there(path)
        if not all(isinstance(number, int) for number in ids.values()):
            raise TokenizerUnavailable(f"{path}: must hold ids by token")
        special = {token["content"] for token in (*named, *extras)}
        for content in sorted(ids, key=lambda content: int(ids[content])):
            yield _token({"content": content, "special": content in special}, folder)
    yield from named
    yield from extras


def _configured(folder: Path) -> tuple[dict[str, Any], Any]:
    """tokenizer_config.json, and its further special tokens: a list, or an object with names. The older
    special_tokens_map.json counts where the configuration does not list the added tokens itself."""
    config = read_if_there(folder / _CONFIG)
    if "added_tokens_decoder" not in config:
        config |= read_if_there(folder / "special_tokens_map.json")
    return config, config.get("extra_special_tokens", config.get("additional_special_tokens"))


def _special(given: Any, folder: Path) -> dict[str, Any]:
    return _token({**(given if isinstance(given, dict) else {"content": given}), "special": True}, folder)


def _token(given: Any, folder: Path) -> dict[str, Any]:
    """An added token as tokenizer.json writes it, without its id."""
    if not isinstance(given, dict) or not isinstance(given.get("content"), str):
        raise TokenizerUnavailable(f"{folder / _CONFIG}: a special or added token must have a text, got {given!r:.100}")
    special = given.get("special", False)
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special, "special": special}
    return {"content": given["content"], **{name: bool(given.get(name, flag)) for name, flag in usual.items()}}


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
