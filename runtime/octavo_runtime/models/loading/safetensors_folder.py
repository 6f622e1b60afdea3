"""A folder of safetensors files as a source of tensors in Hugging Face's names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from octavo_runtime.models.loading.safetensors_files import safetensors_files
from octavo_runtime.models.spec import UnsupportedModel

STORED_TYPES = ("F64", "F32", "F16", "BF16")
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"

# Tensors that a checkpoint may hold without being read; transformers drops the same.
_UNREAD = (
    r"(.*\.)?rotary_emb\.inv_freq",  # a table that older versions saved; it follows from the configuration
)
# The text of a model that sees pictures, in the names of older and newer checkpoints; and the rest of it.
_TEXT = {"language_model.model.": "model.", "model.language_model.": "model.", "language_model.lm_head.": "lm_head."}
_PICTURES = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\..*")


class SafetensorsFolder:
    """The tensors of a folder's model, read one at a time through memory maps. A checkpoint of the decoder alone, whose
    names lack `model.`, is read as one that has it, and one of a model that sees pictures as its text."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, tuple[Any, str]] = {}
        for path in safetensors_files(folder):
            handle = _open(path)
            for name in handle.keys():  # noqa: SIM118 - a file handle, not a mapping
                if name in self._files:
                    raise UnsupportedModel(f"{path}: tensor {name} is in another file too")
                self._files[name] = handle, name
        if any(name.startswith(tuple(_TEXT)) for name in self._files):
            self._files = {_text_name(name): at for name, at in self._files.items() if not _PICTURES.fullmatch(name)}
        if "embed_tokens.weight" in self._files:
            self._files = {name if name == _HEAD else f"model.{name}": at for name, at in self._files.items()}

    def ties(self, says_so: bool) -> bool:
        """Whether the output head is the embedding, given what the configuration says: as in transformers, where it
        says so and one of both is missing or both hold the same."""
        there = [name for name in (_EMBEDDING, _HEAD) if name in self._files]
        if not says_so or not there or (len(there) == 2 and not self._hold_the_same(*there)):
            return False
        self._files[_EMBEDDING] = self._files[there[0]]
        self._files.pop(_HEAD, None)
        return True

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Holds the names, shapes and types of all tensors against those that the model reads, before any is read.
        Raises UnsupportedModel, also where a tensor is left over that nobody reads."""
        for name, shape in shapes.items():
            self._check(name, shape)
        unread = [name for name in self._files if name not in shapes and not re.fullmatch("|".join(_UNREAD), name)]
        if unread:
            raise UnsupportedModel(
                f"the safetensors files have tensors that the model does not read: {', '.join(unread[:3])}"
                + (f" and {len(unread) - 3} more" if len(unread) > 3 else "")
            )

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The tensor of a name in its stored type, checked against the shape that the model needs."""
        self._check(name, shape)
        return self._tensor(name)

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._files:
            raise UnsupportedModel(f"the safetensors files have no tensor {name}")
        handle, stored = self._files[name]
        header = handle.get_slice(stored)
        if (found := tuple(header.get_shape())) != shape:
            raise UnsupportedModel(f"{name}: shape must be {shape}, got {found}")
        if header.get_dtype() not in STORED_TYPES:
            raise UnsupportedModel(f"{name}: type must be one of {', '.join(STORED_TYPES)}, got {header.get_dtype()}")

    def _hold_the_same(self, one: str, other: str) -> bool:
        first, second = self._tensor(one), self._tensor(other)
        return first.dtype == second.dtype and torch.equal(first.view(torch.uint8), second.view(torch.uint8))

    def _tensor(self, name: str) -> torch.Tensor:
        handle, stored = self._files[name]
        tensor: torch.Tensor = handle.get_tensor(stored)
        return tensor


def _text_name(name: str) -> str:
    """model.norm.weight for language_model.model.norm.weight."""
    prefix = next((prefix for prefix in _TEXT if name.startswith(prefix)), None)
    return name if prefix is None else _TEXT[prefix] + name.removeprefix(prefix)


def _open(path: Path) -> Any:
    try:
        path.open("rb").close()  # safe_open calls every failure, a missing permission too, "No such file"
        return safe_open(path, framework="pt")
    except OSError as error:
        raise UnsupportedModel(f"{path}: cannot be read: {error.strerror}") from None
    except SafetensorError as error:
        raise UnsupportedModel(f"{path}: is no whole safetensors file: {error}") from None
