"""GGUF files of a source without their weights: as much of them as says what model they are. Free of torch."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from octavo_runtime.models.loading.gguf_parts import Reader
from octavo_runtime.models.loading.gguf_rope import LONG_ROPE, ROPE_DIVISORS
from octavo_runtime.models.loading.selection import kept_as
from octavo_runtime.models.sources.snapshot import Interrupted, RemoteFile
from octavo_runtime.models.sources.transfer import patiently

_MAGIC = b"GGUF"
_FIRST = 4 * 2**20  # bytes that are read at once; a large vocabulary takes more
_MOST = 2**28
_READ = (ROPE_DIVISORS, *LONG_ROPE)  # tensors that are part of what a model is


class _Header(Reader):
    """The reader of a file that ends behind its header. Raises where it ends within."""

    def _build_tensors(self, *_: object) -> None:
        """There are none yet."""

    def _get(
        self, offset: int, dtype: npt.DTypeLike, count: int = 1, override_order: Literal["I", "S", "<"] | None = None
    ) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = super()._get(offset, dtype, count, override_order)
        if len(values) < count:
            raise EOFError
        return values


def fetch_header(file: RemoteFile, folder: Path) -> Path:
    """The file in a folder, of its full length, with its header, the numbers of its rotary embedding, and nothing in
    the weights' place, which takes no room. Raises ModelNotFound, Interrupted and OSError."""
    path = folder / kept_as(file.name)
    path.touch()
    while (have := path.stat().st_size) < min(file.size, _MOST) and _goes_on(path):
        _copy(file, path, have, max(have, _FIRST))
    os.truncate(path, file.size)
    for start, size in _numbers(path):
        _copy(file, path, start, size)
    return path


def _goes_on(path: Path) -> bool:
    """Whether a header is broken off so far."""
    with path.open("rb") as begun:
        if begun.read(len(_MAGIC)) not in (_MAGIC, b""):
            return False  # whoever opens it says so
    try:
        _Header(path)
    except Exception:  # whatever the parser stumbles over at the end
        return True
    return False


def _numbers(path: Path) -> list[tuple[int, int]]:
    """Where the tensors lie that are read: offset and bytes."""
    try:
        return [(int(each.data_offset), int(each.n_bytes)) for each in Reader(path).tensors if each.name in _READ]
    except Exception:  # whoever opens it says so
        return []


def _copy(file: RemoteFile, path: Path, start: int, size: int) -> None:
    """Brings `size` bytes from `start` on, or fewer at the end, and none before it, where a source sends those too."""
    end = min(start + size, file.size)

    def copy() -> None:
        with file.read(start) as content, path.open("r+b") as out:
            at = content.start
            out.seek(start)
            for chunk in content.chunks:
                out.write(chunk[max(start - at, 0) : end - at])
                at += len(chunk)
                if at >= end:
                    break
        if at < end:
            raise Interrupted(f"{file.name} broke off at byte {at} of {file.size}")

    patiently(copy)
