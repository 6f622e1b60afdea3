"""The files that hold a GGUF model, one or several parts, opened and checked. Free of torch."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from octavo_runtime.models.loading.files import gguf_parts
from octavo_runtime.models.spec import UnsupportedModel

_ARRAY = struct.Struct("<IQ")  # the type of its elements, and how many
_LENGTH = struct.Struct("<Q")  # of a string, which follows


class Reader(gguf.GGUFReader):  # type: ignore[misc] # gguf is untyped
    """gguf's reader, without what makes it slow on a vocabulary: it maps the file with np.memmap, whose views take
    several times as long to make as plain ones, and makes a dozen for each word."""

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        return self._data

    @data.setter
    def data(self, mapped: npt.NDArray[np.uint8]) -> None:
        self._data = np.asarray(mapped)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        """A field's size, its parts, which of them are its values, and its types. Arrays are read in one pass."""
        if raw_type != gguf.GGUFValueType.ARRAY.value or self.byte_order != "I":
            return super()._get_field_parts(orig_offs, raw_type)
        file = self._data.data
        kind, count = _ARRAY.unpack_from(file, orig_offs)
        at = start = int(orig_offs) + _ARRAY.size
        types = [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType(kind)]
        if kind == gguf.GGUFValueType.STRING.value:
            parts = []
            for _ in range(count):
                start = at + _LENGTH.size
                at = start + _LENGTH.unpack_from(file, at)[0]
                parts.append(self._data[start:at])
        elif types[1] in self.gguf_scalar_to_np:
            at += count * np.dtype(self.gguf_scalar_to_np[types[1]]).itemsize
            parts = [self._get(start, self.gguf_scalar_to_np[types[1]], count)]
        else:
            return super()._get_field_parts(orig_offs, raw_type)
        if at > len(self._data):
            raise ValueError("an array ends behind the file")
        return at - orig_offs, parts, list(range(len(parts))), types


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
