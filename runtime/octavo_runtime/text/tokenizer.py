"""Text to token ids and back, on the `tokenizers` library alone."""

import re
import reprlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import tokenizers

from octavo_runtime.models.loading.end_tokens import folder_end_tokens
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams
from octavo_runtime.text.tokenizer_conversion import tokenizer_folder
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable, read_definition, read_special_tokens

# Private names: random for each process, so that no text from outside can contain one.
_SEAL = f"\ufdd0{secrets.token_hex(8)}\ufdd1"
# Templates may write a value as Python or JSON text, which leaves letters and digits alone.
_GUARD = f"guard{secrets.token_hex(16)}x"
_ANY_TEXT = "Some vocabularies have no token for \u96d8 and none for what is unknown."
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


class Tokenizer:
    """A tokenizer in which only the special tokens that a chat template or a raw prompt wrote count as such.

    Inside, every special token carries a private name. `encode` translates special tokens' strings to those names where
    they are meant, so that the same strings in a user's text fall apart into ordinary tokens while every other id stays
    what the original tokenizer gives.

    special_tokens: what chat templates see, such as {"bos_token": "<s>"}.
    eos_token_ids: the tokens that end an answer.
    special_ids: the ids that `decode` leaves out on request.
    vocab_size: ids are below it.
    longest_token: no token stands for more characters."""

    def __init__(
        self, definition: dict[str, Any], special_tokens: dict[str, str], eos_token_ids: Sequence[int]
    ) -> None:
        """`definition`: the content of a tokenizer.json (format: github.com/huggingface/tokenizers)."""
        added = {token["content"]: token["id"] for token in definition["added_tokens"]}
        special = {token["content"]: token["id"] for token in definition["added_tokens"] if token["special"]}
        self.special_tokens = special_tokens
        self.special_ids = frozenset(special.values())
        self.eos_token_ids = tuple(eos_token_ids) or _ids(special_tokens.get("eos_token"), added)
        self._special = special
        self._added_text = {token: text.encode() for text, token in added.items()}
        longest_first = sorted(added, key=len, reverse=True)
        self._any_added = re.compile("|".join(map(re.escape, longest_first))) if added else None
        self._guarded = re.compile(f"{_GUARD}([0-9]+){_GUARD}")
        self._tokenizer = _tried(definition, special)
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.longest_token = max(map(len, [*self._tokenizer.get_vocab(with_added_tokens=False), *added]))
        decoder = _decoder(definition)
        kinds = [node["type"] for node in _nodes(decoder)]
        self._byte_level = "ByteLevel" in kinds
        self._byte_fallback = "ByteFallback" in kinds
        self._continuing = next((node["prefix"] for node in _nodes(decoder) if node["type"] == "WordPiece"), None)
        # The library puts spaces between tokens where there is no decoder.
        self._spaced = not kinds or self._continuing is not None
        self._strips_first_space = self._spaced or any(map(_strips_first_space, _nodes(decoder)))
        if kinds and not self._byte_level and not {"Metaspace", "Replace", "WordPiece"} & set(kinds):
            raise TokenizerUnavailable(
                f"tokenizer.json: decoder must be ByteLevel, Metaspace or WordPiece, got {kinds}"
            )

    def encode(
        self, text: str, *, add_special_tokens: bool, allow_special: bool = True, most: int | None = None
    ) -> list[int]:
        """Token ids of `text`. add_special_tokens: put the tokenizer's own tokens (such as bos) around it.
        allow_special: special tokens' strings become those tokens, except where `guard` was applied. most: of all
        tokens; of a longer text the first ones are kept, and the tokens around them."""
        if allow_special:
            text = self._meant(text)
        # As a batch of one: only batches let other threads run meanwhile. `fast` leaves out the tokens' places.
        if most is None:
            [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        else:
            [plain] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
            around = self._tokenizer.num_special_tokens_to_add(False) if add_special_tokens else 0
            plain.truncate(max(most - around, 0))
            encoding = self._tokenizer.post_process(plain, add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids

    def encode_pair(self, first: str, second: str, *, most: int | None = None) -> tuple[list[int], int | None]:
        """Token ids of two texts as the tokenizer puts them together, and where the second begins, for models that tell
        them apart; None where this tokenizer's do not. most: of all tokens; the longer text then loses its last ones,
        or both (transformers' longest_first)."""
        both = self._tokenizer.encode_batch_fast([self._meant(first), self._meant(second)], add_special_tokens=False)
        if most is not None:
            room = max(most - self._tokenizer.num_special_tokens_to_add(True), 0)
            for one, kept in zip(both, _fair_shares(len(both[0]), len(both[1]), room), strict=True):
                one.truncate(kept)
        joined = self._tokenizer.post_process(both[0], both[1])
        kinds: list[int] = joined.type_ids
        return joined.ids, kinds.index(1) if 1 in kinds else None

    def is_special(self, text: str) -> bool:
        """Whether `text` is the string of one special token."""
        return text in self._special

    def piece(self, token: int) -> str:
        """How the vocabulary spells a token, such as `Ġof`; empty for an unknown one."""
        added: bytes | None = self._added_text.get(token)
        if added is not None:
            return added.decode()
        piece: str | None = self._tokenizer.id_to_token(token) if token >= 0 else None
        return piece or ""

    def guard(self, text: str) -> str:
        """`text` with each special token's string wrapped, so that `encode` splits it into ordinary tokens."""
        return self._any_added.sub(self._guard, text) if self._any_added else text

    def unguarded(self, text: str) -> str:
        """`text` as it was before `guard`."""
        return self._guarded.sub(lambda match: self._added_text[int(match[1])].decode(), text)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of a whole sequence of ids. Bytes that form no character become U+FFFD; unknown ids are empty."""
        data = b"".join(self.token_bytes(token, skip_special_tokens=skip_special_tokens) for token in ids)
        if self._strips_first_space:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", "replace")

    def token_bytes(self, token: int, *, skip_special_tokens: bool = True) -> bytes:
        """What one token adds to a text: UTF-8 bytes, perhaps only part of a character."""
        if token in self._added_text:
            return b"" if skip_special_tokens and token in self.special_ids else self._added_text[token]
        piece = self._tokenizer.id_to_token(token) if token >= 0 else None
        if piece is None:
            return b""
        if self._byte_level:
            return piece.translate(_BYTE_OF_CHARACTER).encode("latin-1", "ignore")
        if self._byte_fallback and (match := _BYTE_PIECE.fullmatch(piece)):
            return bytes.fromhex(match[1])
        if self._continuing is not None and piece.startswith(self._continuing):
            return piece.removeprefix(self._continuing).encode()
        return (f" {piece}" if self._spaced else piece.replace("▁", " ")).encode()

    def _meant(self, text: str) -> str:
        """`text` in which special tokens' strings are those tokens, except where `guard` was applied."""
        return self.unguarded(self._any_added.sub(self._sealed, text)) if self._any_added else text

    def _sealed(self, match: re.Match[str]) -> str:
        token = self._special.get(match[0])
        return match[0] if token is None else f"{_SEAL}{token}{_SEAL}"

    def _guard(self, match: re.Match[str]) -> str:
        token = self._special.get(match[0])
        return match[0] if token is None else f"{_GUARD}{token}{_GUARD}"


def _fair_shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many of the tokens of two texts are kept, where there is room for so many: the longer one gives first."""
    excess = max(first + second - room, 0)
    gap = min(abs(first - second), excess)
    first, second = (first - gap, second) if first > second else (first, second - gap)
    rest = excess - gap
    # Of two of one length they give by turns, the second first.
    return first - rest // 2, second - (rest - rest // 2)


def resolve_params(params: SamplingParams, tokenizer: Tokenizer) -> SamplingParams:
    """`params` with the token ids of its bad_words, each word as it stands at the start of a text and after a space.
    InvalidParameter where a program gave something else for them."""
    if not isinstance(params, SamplingParams):
        raise InvalidParameter("sampling_params", f"must be SamplingParams, got {reprlib.repr(params)}")
    if not params.bad_words:
        return params
    words = [word.lstrip() or word for word in params.bad_words]
    texts = [text for word in words for text in (word, f" {word}")]
    ids = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    return msgspec.structs.replace(params, bad_word_ids=tuple(dict.fromkeys(filter(None, ids))))


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """The tokenizer of a model; for a GGUF file the first load converts it. Raises TokenizerUnavailable."""
    folder = tokenizer_folder(files)
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise TokenizerUnavailable(f"{files.name}: no tokenizer.json in {folder}")
    definition, named = read_definition(folder), read_special_tokens(folder)
    try:
        return Tokenizer(definition, named, folder_end_tokens(folder))
    except UnsupportedModel as error:
        raise TokenizerUnavailable(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise TokenizerUnavailable(f"{path}: not a tokenizer.json: {error}") from None


def _tried(definition: dict[str, Any], special: dict[str, int]) -> tokenizers.Tokenizer:
    """The library's own tokenizer, which reads any text. Raises TokenizerUnavailable."""
    try:
        tokenizer = tokenizers.Tokenizer.from_str(msgspec.json.encode(_seal(definition, special)).decode())
        tokenizer.encode_batch_fast([_ANY_TEXT])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises no narrower class, and where it panics not even an Exception
        raise TokenizerUnavailable(f"tokenizer.json: {error}") from None
    return tokenizer


def _ids(text: str | None, added: dict[str, int]) -> tuple[int, ...]:
    return (added[text],) if text is not None and text in added else ()


def _seal(definition: dict[str, Any], special: dict[str, int]) -> dict[str, Any]:
    """The definition with each special token renamed, in the added tokens and in the model's own vocabulary."""
    names = {text: f"{_SEAL}{token}{_SEAL}" for text, token in special.items()}
    added = [
        {**token, "content": names.get(token["content"], token["content"])} for token in definition["added_tokens"]
    ]
    model = dict(definition["model"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): token for piece, token in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if "merges" in model:
        # A merge that ends in a special token's string would make that token out of a user's text.
        pairs = (tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"])
        model["merges"] = [pair for pair in pairs if not names.keys() & {*pair, "".join(pair)}]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return {**definition, "added_tokens": added, "model": model, "truncation": None, "padding": None}


def _decoder(definition: dict[str, Any]) -> dict[str, Any] | None:
    """The decoder; where there is none, the one that undoes what the definition does to texts."""
    decoder: dict[str, Any] | None = definition.get("decoder")
    if decoder is not None:
        return decoder
    for node in _nodes(definition.get("pre_tokenizer")):
        if node["type"] in ("ByteLevel", "Metaspace"):
            return node
    return None


def _nodes(node: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A decoder or pre-tokenizer, and the parts that it is made of."""
    if node is None:
        return
    yield node
    for child in node.get("decoders") or node.get("pretokenizers") or []:
        yield from _nodes(child)


def _strips_first_space(node: dict[str, Any]) -> bool:
    if node["type"] == "Strip":
        return bool(node["content"] == " " and node["start"] > 0)
    return bool(node["type"] == "Metaspace" and node.get("prepend_scheme", "always") != "never")


def _byte_of_character() -> dict[int, int]:
    """Inverse of GPT-2's printable stand-ins for bytes: code point -> byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: byte for byte in printable}, **{256 + index: byte for index, byte in enumerate(others)}}


_BYTE_OF_CHARACTER = _byte_of_character()
