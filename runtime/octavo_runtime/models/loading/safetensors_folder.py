"""A folder of safetensors files as a source of tensors in Hugging Face's names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from octavo_runtime.models.loading.safetensors_files import safetensors_files
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.quantization.formats import stored_form
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix, concatenate_groups
from octavo_runtime.quantization.scheme import Scheme, UnsupportedQuantization
from octavo_runtime.quantization.stored_parts import Part, Weight

STORED_TYPES = ("F64", "F32", "F16", "BF16")
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"

_PACKED = ("_blocks", "_scales")  # weights in MXFP4
# What a layer that predicts a further token has in front of it (DeepSeek-V3, 2024).
_JOINED_STATES = "eh_proj"

# Tensors that a checkpoint may hold without being read; transformers drops the same.
_UNREAD = (
    r"(.*\.)?rotary_emb\.inv_freq",  # a table that older versions saved; it follows from the configuration
    r".*\.self_attn\.([qv]_scale|kv?_scale|[qkv]_zero_point|[kv]_proj\.([kv]|output)_scale)",  # of a KV cache
    r"(.*\.)?(attn|attention)\.(masked_)?bias",  # the mask of what comes later, of the oldest models
)
# The text of a model that sees pictures, in the names of older and newer checkpoints; and the rest of it.
_TEXT = {"language_model.model.": "model.", "model.language_model.": "model.", "language_model.lm_head.": "lm_head."}
_PICTURES = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\..*")


class SafetensorsFolder:
    """The tensors of a folder's model, read one at a time through memory maps. A checkpoint of the decoder alone, whose
    names lack `model.`, is read as one that has it, and one of a model that sees pictures as its text."""

    def __init__(
        self,
        folder: Path,
        unread: tuple[str, ...] = (),
        beginnings: tuple[tuple[str, str], ...] = (),
        scheme: Scheme | None = None,
    ) -> None:
        """unread: how the names of tensors begin that are passed over. beginnings: see TensorNames. scheme: how
        projections are stored in fewer bits, if some are."""
        self._form = None if scheme is None else stored_form(scheme)
        self._files: dict[str, tuple[Any, str]] = {}
        for path in safetensors_files(folder):
            handle = _open(path)
            for name in handle.keys():  # noqa: SIM118 - a file handle, not a mapping
                if name in self._files:
                    raise UnsupportedModel(f"{path}: tensor {name} is in another file too")
                self._files[name] = handle, name
        if beginnings:
            self._files = {_renamed(name, beginnings): at for name, at in self._files.items()}
        if any(name.startswith(tuple(_TEXT)) for name in self._files):
            self._files = {_text_name(name): at for name, at in self._files.items() if not _PICTURES.fullmatch(name)}
        if "embed_tokens.weight" in self._files:
            self._files = {name if name == _HEAD else f"model.{name}": at for name, at in self._files.items()}
        others = tuple(filter(self._is_for_other_ends, unread))
        self._files = {name: at for name, at in self._files.items() if not name.startswith(others)}

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._files or self._is_packed(name)

    def stored_name(self, name: str) -> str:
        """What the files call the tensor of a name, which must be there."""
        return self._files[name][1]

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
        read = set(shapes)
        for name, shape in shapes.items():
            if self._is_packed(name):
                read |= self._check_parts(name, shape)
            else:
                self._check(name, shape)
        unread = [
            name
            for name in self._files
            if name not in read and not re.fullmatch("|".join(_UNREAD), name) and not self._adds_nothing(name)
        ]
        if unread:
            raise UnsupportedModel(
                f"the safetensors files have tensors that the model does not read: {', '.join(unread[:3])}"
                + (f" and {len(unread) - 3} more" if len(unread) > 3 else "")
            )

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor of a name as it is stored, which must be there."""
        return self._tensor(name)

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor | GroupedMatrix:
        """The tensor of a name in its stored type, checked against the shape that the model needs. Of a weight of all
        experts in fewer bits, [experts, rows, columns], the rows come under one another."""
        if not self._is_packed(name):
            self._check(name, shape)
            return self._tensor(name)
        self._check_parts(name, shape)
        try:
            if len(shape) == 2:
                return self._matrix(name, shape)
            found = [self._matrix(name, shape[1:], expert) for expert in range(shape[0])]
        except UnsupportedQuantization as error:
            raise UnsupportedModel(f"{name}: {error}") from None
        together = concatenate_groups(found)
        return torch.stack([matrix.dequantize() for matrix in found]) if together is None else together

    def _matrix(self, name: str, shape: tuple[int, ...], expert: int | None = None) -> GroupedMatrix:
        """A weight in fewer bits; of a tensor of all experts that of one."""
        assert self._form is not None
        return self._form.read(
            Weight(*shape),
            lambda part: _part_name(name, part) in self._files,
            lambda part: self._tensor(_part_name(name, part), expert),
        )

    def _is_for_other_ends(self, beginning: str) -> bool:
        """Whether tensors whose names begin so may be passed over: not a layer that is like those in front of it, where
        the configuration says that there is one less."""
        is_layer = beginning.startswith("model.layers.")
        return not is_layer or any(name.startswith(beginning + _JOINED_STATES) for name in self._files)

    def _is_packed(self, name: str) -> bool:
        """Whether a weight is stored in fewer bits."""
        return self._form is not None and any(_part_name(name, marker) in self._files for marker in self._form.markers)

    def _check_parts(self, name: str, shape: tuple[int, ...]) -> set[str]:
        """The names of the tensors that a weight in fewer bits is stored in, all of them checked."""
        assert self._form is not None
        try:
            parts = self._form.parts(Weight(*shape[-2:]), lambda part: _part_name(name, part) in self._files)
        except UnsupportedQuantization as error:
            raise UnsupportedModel(f"{name}: {error}") from None
        for part, wanted in parts.items():
            self._check_part(_part_name(name, part), wanted, shape[:-2])
        return {_part_name(name, part) for part in parts}

    def _check_part(self, name: str, wanted: Part, experts: tuple[int, ...]) -> None:
        """experts: how many there are in one tensor, if there are."""
        if name not in self._files:
            raise UnsupportedModel(f"the safetensors files have no tensor {name}")
        handle, stored = self._files[name]
        header = handle.get_slice(stored)
        found = tuple(header.get_shape())
        if found[: len(experts)] != experts:
            raise UnsupportedModel(f"{name}: shape must begin with {experts[0]} experts, got {found}")
        if (problem := wanted.problem(header.get_dtype(), found[len(experts) :])) is not None:
            raise UnsupportedModel(f"{name}: {problem}")

    def _adds_nothing(self, name: str) -> bool:
        """Whether this is the bias of zeros that some quantisers give each projection."""
        is_bias = name.endswith(".bias") and self._is_packed(name.removesuffix("bias") + "weight")
        return is_bias and not bool(self._tensor(name).any())

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._files:
            raise UnsupportedModel(f"the safetensors files have no tensor {name}")
        handle, stored = self._files[name]
        header = handle.get_slice(stored)
        if (found := tuple(header.get_shape())) != shape:
            raise UnsupportedModel(f"{name}: shape must be {shape}, got {found}")
        types = ("U8",) if name.endswith(_PACKED) else STORED_TYPES
        if header.get_dtype() not in types:
            raise UnsupportedModel(f"{name}: type must be one of {', '.join(types)}, got {header.get_dtype()}")

    def _hold_the_same(self, one: str, other: str) -> bool:
        first, second = self._tensor(one), self._tensor(other)
        return first.dtype == second.dtype and torch.equal(first.view(torch.uint8), second.view(torch.uint8))

    def _tensor(self, name: str, expert: int | None = None) -> torch.Tensor:
        """The tensor of a name, or what one expert has of it."""
        handle, stored = self._files[name]
        tensor: torch.Tensor = handle.get_tensor(stored) if expert is None else handle.get_slice(stored)[expert]
        return tensor


def _part_name(name: str, part: str) -> str:
    """What a part of a weight is called: a.weight_scale for a.weight, a_scale for a weight called a."""
    return name.removesuffix("weight") + part if name.endswith("weight") else name + part.removeprefix("weight")


def _renamed(name: str, beginnings: tuple[tuple[str, str], ...]) -> str:
    found = next(((theirs, ours) for theirs, ours in beginnings if name.startswith(theirs)), None)
    return name if found is None else found[1] + name.removeprefix(found[0])


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
