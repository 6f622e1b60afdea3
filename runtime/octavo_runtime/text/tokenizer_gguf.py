"""The tokenizer in a GGUF file's metadata (github.com/ggml-org/ggml, docs/gguf.md), for the `tokenizers` library, and
token for token as llama.cpp reads it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from tokenizers.processors import TemplateProcessing

from octavo_runtime.text.tokenizer_splits import DEFAULT, SPLITS, Split

# Part of the cache's key, and of what `octavo prepare` writes: raise it when the result of a conversion changes.
VERSION = 3
VERSION_KEY = "octavo_conversion"

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # values of tokenizer.ggml.token_type
_SCORED_IDS = {"bos": 1, "eos": 2, "unknown": 0}  # where a file with scores does not say


def convert(gguf: Path, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and generation_config.json from the metadata of `gguf`. ValueError,
    in one line, for a tokenizer that is not known."""
    # Imported here: it takes some tenths of a second, which only a first load pays.
    from octavo_runtime.models.loading.gguf_parts import open_parts
    from octavo_runtime.models.loading.gguf_spec import end_tokens

    reader = open_parts(gguf)[0]
    fields = {name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")}
    tokenizer, ids = build(fields)
    names = {name: fields["tokenizer.ggml.tokens"][token] for name, token in ids.items()}
    config = {
        "bos_token": names.get("bos"),
        "eos_token": names.get("eos"),
        "unk_token": names.get("unknown"),
        "pad_token": names.get("padding"),
        "chat_template": _chat_templates(fields),
        VERSION_KEY: VERSION,
    }
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end_tokens(reader)}))


def build(fields: Mapping[str, Any]) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer, and the ids of the special tokens that the file names, such as {"bos": 1}. `fields`: the file's
    metadata."""
    kind, tokens = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.tokens")
    if kind not in ("gpt2", "llama"):
        raise ValueError(f"tokenizer.ggml.model must be gpt2 or llama, got {kind}")
    if not tokens:
        raise ValueError(f"tokenizer.ggml.tokens must have at least one token, got {tokens}")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    for number, token in enumerate(tokens):
        if vocabulary[token] != number:
            raise ValueError(f"tokenizer.ggml.tokens must differ from each other, got {token!r} twice")
    ids = _special_ids(fields, len(tokens), {} if kind == "gpt2" else _SCORED_IDS)
    if kind == "gpt2":
        split = _split(fields)
        unknown = tokens[ids["unknown"]] if "unknown" in ids else None
        tokenizer, adds_bos = _bytes(fields, vocabulary, split, unknown), split.adds_bos
    else:
        tokenizer, adds_bos = _pieces(fields, vocabulary, tokens[ids["unknown"]]), True
    _add_tokens(tokenizer, tokens, _types(fields, len(tokens)), ids.values())
    first = _is_set(fields, "add_bos_token", adds_bos) and "bos" in ids
    last = _is_set(fields, "add_eos_token", False) and "eos" in ids
    around = [*(["bos"] if first else []), *(["eos"] if last else [])]
    tokenizer.post_processor = TemplateProcessing(
        single=[*([tokens[ids["bos"]]] if first else []), "$A", *([tokens[ids["eos"]]] if last else [])],
        special_tokens=[(tokens[ids[name]], ids[name]) for name in around],
    )
    return tokenizer, ids


def _special_ids(fields: Mapping[str, Any], count: int, usual: Mapping[str, int]) -> dict[str, int]:
    ids = {name: token for name, token in usual.items() if token < count}
    for name in ("bos", "eos", "unknown", "padding", "eot", "eom"):
        token = fields.get(f"tokenizer.ggml.{name}_token_id")
        if token is None:
            continue
        if not 0 <= token < count:
            raise ValueError(f"tokenizer.ggml.{name}_token_id must be below {count}, got {token}")
        ids[name] = int(token)
    return ids


def _split(fields: Mapping[str, Any]) -> Split:
    name = fields.get("tokenizer.ggml.pre")
    if name is None:
        return DEFAULT
    if name not in SPLITS:
        raise ValueError(f"tokenizer.ggml.pre must be one of {', '.join(sorted(SPLITS))}, got {name}")
    return SPLITS[name]


def _bytes(fields: Mapping[str, Any], vocabulary: dict[str, int], split: Split, unknown: str | None) -> Tokenizer:
    """Byte-level BPE, as GPT-2 has it. unknown: stands for bytes that are not in the vocabulary."""
    merges = _listed_merges(fields)
    model = models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, ignore_merges=split.whole_words)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = split.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _listed_merges(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    listed = fields.get("tokenizer.ggml.merges")
    if listed is None:
        raise ValueError("tokenizer.ggml.merges must be there, with tokenizer.ggml.model gpt2")
    # gguf-py reads a list of one string as that string.
    pairs = []
    for merge in [listed] if isinstance(listed, str) else listed:
        left, _, right = merge[1:].partition(" ")
        pairs.append((merge[:1] + left, right))
    return pairs


def _pieces(fields: Mapping[str, Any], vocabulary: dict[str, int], unknown: str) -> Tokenizer:
    """BPE by scores with ▁ for spaces and bytes for what is not in the vocabulary, as SentencePiece has it."""
    scores = fields.get("tokenizer.ggml.scores")
    if scores is None or len(scores) != len(vocabulary):
        raise ValueError(f"tokenizer.ggml.scores must have a score for each of {len(vocabulary)} tokens")
    model = models.BPE(
        vocabulary, _scored_merges(vocabulary, scores), unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    spaces: list[normalizers.Normalizer] = [normalizers.Replace(" ", "▁")]
    plain: list[decoders.Decoder] = [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " ")]
    if _is_set(fields, "add_space_prefix", True):
        spaces.insert(0, normalizers.Prepend("▁"))
        plain.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(plain)
    return tokenizer


def _scored_merges(vocabulary: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to make a token out of two, the tokens of the highest score first."""
    pairs = [
        (-scores[token], -scores[vocabulary[left]], -scores[vocabulary[right]], left, right)
        for piece, token in vocabulary.items()
        for left, right in ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        if left in vocabulary and right in vocabulary
    ]
    return [(left, right) for *_, left, right in sorted(pairs, key=lambda pair: pair[:3])]


def _types(fields: Mapping[str, Any], count: int) -> Sequence[int]:
    types = fields.get("tokenizer.ggml.token_type")
    if types is None:
        return [0] * count
    if len(types) != count:
        raise ValueError(f"tokenizer.ggml.token_type must have a type for each of {count} tokens, got {len(types)}")
    return list(types)


def _add_tokens(tokenizer: Tokenizer, tokens: Sequence[str], types: Sequence[int], named: Iterable[int]) -> None:
    """Tokens that are cut out of a text before anything else: control tokens and the named ones where the file has no
    types, and what a user defined."""
    special = {token for token, kind in enumerate(types) if kind in (_UNKNOWN, _CONTROL)}
    if not any(types):
        special |= set(named)
    tokenizer.add_special_tokens([AddedToken(tokens[token], normalized=False) for token in sorted(special)])
    defined = [tokens[token] for token, kind in enumerate(types) if kind == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in defined])


def _is_set(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    value = fields.get(f"tokenizer.ggml.{name}")
    return default if value is None else bool(value)


def _chat_templates(fields: Mapping[str, Any]) -> Any:
    """One template, or several with their names, as tokenizer_config.json has them."""
    default = fields.get("tokenizer.chat_template")
    prefix = "tokenizer.chat_template."
    named = {name.removeprefix(prefix): source for name, source in fields.items() if name.startswith(prefix)}
    if not named:
        return default
    return ({"default": default} if default is not None else {}) | named
