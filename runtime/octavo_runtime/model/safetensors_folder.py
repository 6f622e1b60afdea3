"""A folder of safetensors files as a source of tensors in Hugging Face's names."""

from pathlib import Path

import torch
from safetensors import safe_open

from octavo_runtime.model.spec import UnsupportedModel


class SafetensorsFolder:
    """The tensors of all *.safetensors files of a folder, read one at a time through memory maps."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise UnsupportedModel(f"{folder} has no *.safetensors file")
        self._files = {}
        for path in files:
            path.open("rb").close()  # safe_open calls every failure, a missing permission too, "No such file"
            handle = safe_open(path, framework="pt")
            for name in handle.keys():  # noqa: SIM118 - a file handle, not a mapping
                self._files[name] = handle

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The tensor of a name in its stored type, checked against the shape that the model needs."""
        if name not in self._files:
            raise UnsupportedModel(f"the safetensors files have no tensor {name}")
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise UnsupportedModel(f"{name}: shape must be {shape}, got {tuple(tensor.shape)}")
        return tensor
