"""What a source holds at one moment: a revision, and files with their sizes and digests."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from octavo_runtime.models.loading.selection import ModelNotFound


class Interrupted(RuntimeError):
    """The source did not answer, broke off, or asks for patience: what comes by trying again. One line; `wait`: the
    seconds that it asks for, if it does."""

    def __init__(self, words: str, wait: float | None = None) -> None:
        super().__init__(words)
        self.wait = wait


class Offline(ModelNotFound):
    """The source may not be asked, by a setting; what it holds may be in a cache."""


class Hash(Protocol):
    """As hashlib's."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class Digest:
    """`algorithm`: hashlib's name, or git, which is the SHA-1 of a git blob (of its length, then of its content)."""

    algorithm: str
    value: str

    def begin(self, size: int) -> Hash:
        """A hash over nothing yet of a content of `size` bytes."""
        if self.algorithm == "git":
            return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return hashlib.new(self.algorithm, usedforsecurity=False)


@dataclass(frozen=True)
class Bytes:
    """Content from byte `start` on: 0 where a source does not begin elsewhere."""

    start: int
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class RemoteFile:
    """One file. `digest`: None where the source has none. `read` opens it from an offset, and raises
    Interrupted or ModelNotFound, as its chunks do."""

    name: str
    size: int
    digest: Digest | None
    read: Callable[[int], AbstractContextManager[Bytes]]


@dataclass(frozen=True)
class Snapshot:
    """`revision`: the same for the same content, and part of a folder's name; `files` by name; `file`: the one that
    the URI asks for, if it asks for one; `archives`: tar files, plain or gzip, with further files."""

    revision: str
    files: Mapping[str, RemoteFile]
    file: str | None = None
    archives: Sequence[RemoteFile] = ()
