"""The model that is quantised, a layer at a time."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.experts import in_stored_form
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.finite import check_finite
from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.loading.safetensors_files import safetensors_files
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.tensor_shapes import tensor_shapes
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix
from octavo_runtime.quantizer.recipe import CannotQuantize


@dataclass(frozen=True)
class Source:
    """spec: as the checkpoint has it. digest: of its configuration, and of its files' names, sizes and times."""

    folder: Path
    config: Mapping[str, Any]
    spec: ModelSpec
    checkpoint: SafetensorsFolder
    digest: str
    size: int  # bytes of its weights

    def layer(self, index: int) -> dict[str, Tensor]:
        """A layer's tensors, by their names in the model, as they are stored. Raises UnsupportedModel where one holds
        NaN or infinity."""
        names = [name for name in self._of_layers if name.startswith(layer_prefix(index))]
        found = {name: self.checkpoint.tensor(name) for name in names}
        for name, tensor in found.items():
            check_finite(name, tensor)
        return found

    def prefixes(self, index: int) -> tuple[str, str]:
        """How the names of a layer's tensors begin in the checkpoint, and in the model."""
        ours = layer_prefix(index)
        name = next(name for name in self._of_layers if name.startswith(ours))
        return self.checkpoint.stored_name(name).removesuffix(name.removeprefix(ours)), ours

    def rest(self) -> dict[str, Tensor]:
        """All tensors that are no layer's, by the checkpoint's own names, from memory maps."""
        of_layers = {self.checkpoint.stored_name(name) for name in self._of_layers}
        found: dict[str, Tensor] = {}
        for path in safetensors_files(self.folder):
            with safe_open(path, framework="pt") as opened:
                found |= {name: opened.get_tensor(name) for name in opened.keys() if name not in of_layers}  # noqa: SIM118
        return found

    @cached_property
    def _of_layers(self) -> list[str]:
        return [name for name in tensor_shapes(self.spec) if name.startswith("model.layers.")]


def open_source(model: str, *, takes_experts: bool = True) -> Source:
    """Raises CannotQuantize, UnsupportedModel and ModelNotFound, each with one line, where a model cannot be had or is
    none of those that can be quantised. takes_experts: mixtures whose experts are stored one by one can be."""
    files = locate(model)
    if files.gguf is not None:
        raise CannotQuantize(f"model: must be a folder of safetensors in 16 or 32 bits, got the GGUF file {files.gguf}")
    folder = files.folder
    spec, config = spec_from_folder(folder), read_object(folder / "config.json")
    checkpoint = SafetensorsFolder(folder, spec.unread, spec.tensors.beginnings)
    spec = in_stored_form(spec, checkpoint.has)
    _check_kind(folder, spec, config, takes_experts=takes_experts)
    if checkpoint.ties(spec.tie_embeddings) != spec.tie_embeddings:
        raise CannotQuantize("model: tie_word_embeddings must be false where the files have a head of its own")
    checkpoint.check(tensor_shapes(spec))
    states = {path.name: path.stat() for path in safetensors_files(folder)}
    told = repr(sorted(config.items()))
    told += repr([(name, state.st_size, state.st_mtime_ns) for name, state in states.items()])
    digest = hashlib.sha256(told.encode()).hexdigest()
    return Source(folder, config, spec, checkpoint, digest, sum(state.st_size for state in states.values()))


def _check_kind(folder: Path, spec: ModelSpec, config: Mapping[str, Any], *, takes_experts: bool) -> None:
    problem = None
    if spec.encoder is not None:
        problem = "a decoder, got an encoder"
    elif spec.quantization is not None or "quantization_config" in config:
        method = spec.quantization.format if spec.quantization is not None else "another format"
        problem = f"in 16 or 32 bits, got one that is quantised already ({method})"
    elif spec.experts is not None and not takes_experts:
        number = spec.experts.routing.num_experts
        problem = f"dense for squeezellm, which has no layout of mixtures, got one of {number} experts"
    elif spec.experts is not None and "{}" not in spec.tensors.experts[0].down:
        problem = "dense, or one whose experts are stored one by one, got all of a layer in one tensor"
    elif spec.latent is not None:
        problem = "one with keys and values of its own, got multi-head latent attention"
    elif spec.is_post_norm:
        problem = "one whose norms stand in front of attention and MLP, got norms behind them"
    elif spec.tensors.is_transposed:
        problem = "one whose projections are stored as [out, in], got [in, out], for which no format has a layout"
    elif "text_config" in config:
        problem = "a text model, got one that sees pictures"
    elif spec.labels or (folder / "modules.json").is_file():
        problem = "one that writes text, got one for scores or embeddings"
    if problem is not None:
        raise CannotQuantize(f"model: must be {problem}: {folder}")
