"""The API keys of a server. They come from flags, from the environment, and from a file or folder that is read again
when it changes. What requests are compared with are SHA-256 digests."""

import hashlib
import hmac
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from octavo_runtime.config.server import ServerConfig
from octavo_runtime.server.access.caller import ANONYMOUS
from octavo_runtime.server.access.limits import NO_LIMITS, Account, Limits
from octavo_runtime.server.http.watched_files import WatchedFiles, folder_files

ENVIRONMENT = "OCTAVO_API_KEYS"
MIN_LENGTH, MAX_LENGTH = 16, 256
MAX_KEYS = 1000  # each request is compared with all of them
_MAX_FILE_BYTES = 2**20
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(rf"[!-~]{{{MIN_LENGTH},{MAX_LENGTH}}}")
_LIMIT = Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A table of a file of keys."""

    key: str
    requests_per_minute: _LIMIT = None
    tokens_per_minute: _LIMIT = None
    max_concurrent_requests: _LIMIT = None


@dataclass(frozen=True)
class ApiKey:
    """A key by its name, and what its user has asked for of late. digest: SHA-256 of the key."""

    name: str
    digest: bytes
    account: Account


@dataclass(frozen=True)
class _Given:
    name: str
    key: str
    limits: Limits = NO_LIMITS


class ApiKeys:
    """The keys that open a server. Raises ValueError, in one line that holds no key, where they cannot be used.

    `required` is false where none were ever asked for: then `anonymous` is everybody's account. Where a file holds no
    key any more, all are shut out."""

    def __init__(self, config: ServerConfig, environment: str = "") -> None:
        self._limits = Limits(config.requests_per_minute, config.tokens_per_minute, config.max_concurrent_requests)
        self._file = None if config.api_key_file is None else Path(config.api_key_file)
        words = [word for word in re.split(r"[,\s]+", environment) if word]
        self._fixed = [_from_word(word, f"{ENVIRONMENT} {n}") for n, word in enumerate(words, start=1)]
        self._fixed += [
            _from_word(word.get_secret_value(), f"api_key {n}") for n, word in enumerate(config.api_key, start=1)
        ]
        self._keys: dict[str, ApiKey] = {}
        self.anonymous = Account(self._limits)
        self.required = bool(self._fixed) or self._file is not None
        self._watched = WatchedFiles([] if self._file is None else [self._file], self._load)

    def find(self, presented: bytes) -> ApiKey | None:
        """The key that a client presents. All keys are compared, each in constant time: how long it takes tells nothing
        of any."""
        digest, found = hashlib.sha256(presented).digest(), None
        for key in self._keys.values():
            if hmac.compare_digest(digest, key.digest):
                found = key
        return found

    async def watch(self) -> None:
        """Takes over changes of the file or folder, until it is cancelled."""
        await self._watched.watch()

    def _load(self) -> None:
        given = self._fixed + ([] if self._file is None else list(_from_path(self._file)))
        _check_together(given)
        self._keys = {one.name: self._key(one) for one in given}

    def _key(self, given: _Given) -> ApiKey:
        limits, known = given.limits.over(self._limits), self._keys.get(given.name)
        account = Account(limits) if known is None else known.account
        account.limit(limits)
        return ApiKey(given.name, hashlib.sha256(given.key.encode()).digest(), account)


def _from_word(word: str, source: str) -> _Given:
    """NAME=KEY, or KEY alone: that one is called by the beginning of its digest."""
    name, separator, key = word.partition("=")
    if not separator:
        name, key = f"key-{hashlib.sha256(word.encode()).hexdigest()[:8]}", word
    return _checked(_Given(name, key), f"{source}, which is NAME=KEY or a KEY without =,")


def _from_path(path: Path) -> Iterator[_Given]:
    """The keys in a file, or in a folder of which each file is called as its key is."""
    try:
        if not path.is_dir():
            yield from _from_toml(path)
            return
        for file in folder_files(path):
            if file.suffix == ".toml":
                yield from _from_toml(file)
            else:
                yield _checked(_Given(file.name, _text(file).strip()), f"api_key_file: the key in {file}")
    except OSError as error:
        raise ValueError(f"api_key_file: cannot read {path}: {error.strerror}") from None


def _from_toml(path: Path) -> Iterator[_Given]:
    """Keys in TOML: `name = "key"`, or a table by the key's name with `key` and limits of its own."""
    try:
        tables = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"api_key_file: {path} is not a file of keys in TOML: {error}") from None
    for number, (name, table) in enumerate(tables.items(), start=1):
        described = f"api_key_file: key {number} in {path}"
        try:
            entry = msgspec.convert(table, str | _Entry)
        except msgspec.ValidationError as error:
            raise ValueError(f"{described}{_fault(name, table, error)}") from None
        given = (
            _Given(name, entry)
            if isinstance(entry, str)
            else _Given(
                name,
                entry.key,
                Limits(entry.requests_per_minute, entry.tokens_per_minute, entry.max_concurrent_requests),
            )
        )
        yield _checked(given, described)


def _fault(name: str, table: Any, error: msgspec.ValidationError) -> str:
    """What is wrong with the table of a name. What is in it may be a key, but for limits, and so may the name where the
    table holds none, and the name of a field that is none: no such thing is shown."""
    fields = table if isinstance(table, dict) else {}
    key, place = fields.get("key"), re.search(r" - at `\$\.(\w+)`$", str(error))
    named = f" ({name})" if isinstance(key, str) and _KEY.fullmatch(key) and _NAME.fullmatch(name) else ""
    if "unknown field" in str(error):
        return f"{named}: holds another field than {', '.join(_Entry.__struct_fields__)}"
    given = fields.get(place[1]) if place and place[1] != "key" else None
    got = f", got {given!s:.100}" if isinstance(given, int | float) else ""
    return f"{named}: {error}{got}"


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"api_key_file: {path} must have at most {_MAX_FILE_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"api_key_file: {path} must be UTF-8, and is not at byte {error.start}") from None


def _checked(given: _Given, described: str) -> _Given:
    """`given`, where it may be used. What seems a name may be a secret in the wrong place: no message shows it."""
    if not _NAME.fullmatch(given.name) or given.name == ANONYMOUS:
        raise ValueError(f"{described} must have a name of 1 to 64 letters, digits and ._- other than {ANONYMOUS}")
    if not _KEY.fullmatch(given.key):
        raise ValueError(
            f"{described} must have a key of {MIN_LENGTH} to {MAX_LENGTH} printable ASCII characters without spaces, "
            f"got {len(given.key)} characters"
        )
    return given


def _check_together(given: Iterable[_Given]) -> None:
    names: dict[str, str] = {}  # by key
    for one in given:
        if one.name in names.values():
            raise ValueError(f"api_key: two keys are called {one.name}")
        if one.key in names:
            raise ValueError(f"api_key: {names[one.key]} and {one.name} are the same key")
        names[one.key] = one.name
    if len(names) > MAX_KEYS:
        raise ValueError(f"api_key: there must be at most {MAX_KEYS} keys, got {len(names)}")
