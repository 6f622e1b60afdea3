"""The files that hold a GGUF model, one or several parts, opened and checked. Free of torch."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from octavo_runtime.models.loading.files import gguf_parts
from octavo_runtime.models.spec import UnsupportedModel


class Reader(gguf.GGUFReader):  # type: ignore[misc] # gguf is untyped
    """gguf's reader on plain views of the file. It maps the file with np.memmap, whose views take several times as
    long to make, and makes some for each word of the vocabulary: 1.4 s of smollm2's 2 s."""

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        return self._data

    @data.setter
    def data(self, mapped: npt.NDArray[np.uint8]) -> None:
        self._data = np.asarray(mapped)


def open_parts(path: Path) -> list[Reader]:
    """All parts of the model that `path` is, or begins. Raises UnsupportedModel, which names the file."""
    paths = gguf_parts(path)
    parts = [_open(part) for part in paths]
    counted = _number(parts[0], "split.count") or 1
    if counted != len(parts):
        raise UnsupportedModel(
            f"{path}: the name must say that it is one of {counted} parts, as in model-00001-of-{counted:05}.gguf"
        )
    for index, (part, name) in enumerate(zip(parts, paths, strict=True)):
        if len(parts) > 1 and _number(part, "split.no") != index:
            raise UnsupportedModel(f"{name}: split.no must be {index}, got {_number(part, 'split.no')}")
    promised, found = _number(parts[0], "split.tensors.count"), sum(len(part.tensors) for part in parts)
    if len(parts) > 1 and promised not in (None, found):
        raise UnsupportedModel(f"{path}: its parts must hold {promised} tensors, got {found}")
    return parts


def metadata(reader: gguf.GGUFReader, name: str) -> Any:
    """The value of a field; None where the file does not have it."""
    field = reader.get_field(name)
    return None if field is None else field.contents()


def spellings(reader: gguf.GGUFReader) -> list[bytes]:
    """The vocabulary, in the order of the ids."""
    field = reader.get_field("tokenizer.ggml.tokens")
    return [] if field is None else [field.parts[at].tobytes() for at in field.data]


def _open(path: Path) -> Reader:
    try:
        reader = Reader(path)
    except OSError as error:
        raise UnsupportedModel(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # what its parser stumbles over where the file is broken off or is none
        raise UnsupportedModel(f"{path}: is no whole GGUF file: {str(error) or type(error).__name__}") from None
    if reader.endianess != gguf.GGUFEndian.LITTLE:
        raise UnsupportedModel(f"{path}: byte order must be little-endian, got big-endian")
    return reader


def _number(reader: gguf.GGUFReader, name: str) -> int | None:
    value = metadata(reader, name)
    return value if isinstance(value, int) else None
