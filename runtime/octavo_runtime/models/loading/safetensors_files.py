"""Which safetensors files of a folder hold its model. Free of torch.

Those of model.safetensors.index.json; without one, model.safetensors. Nothing else that lies beside them is read: an
optimizer's state, another export of the same model."""

from pathlib import Path

from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.spec import UnsupportedModel

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def safetensors_files(folder: Path) -> list[Path]:
    """The files of the model in `folder`. Raises UnsupportedModel, which names a file that is missing."""
    if (folder / INDEX).is_file():
        files = [folder / name for name in indexed_files(folder / INDEX)]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise UnsupportedModel(f"{folder}: {INDEX} names files that are not there: {', '.join(missing)}")
        return files
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    for name in (INDEX, SINGLE):
        if (folder / name).is_symlink() or (folder / name).exists():
            raise UnsupportedModel(f"{folder / name}: must be a file, got a folder or a link to what is not there")
    found = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pth", ".pt"))
    raise UnsupportedModel(f"{folder} must hold {INDEX} or {SINGLE}, found {', '.join(found) or 'no weights'}")


def indexed_files(index: Path) -> list[str]:
    """The names of the files that an index lists."""
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UnsupportedModel(f"{index}: weight_map must be an object of tensor and file names")
    files = set(names.values()) if all(isinstance(name, str) for name in names.values()) else {""}
    for name in files:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UnsupportedModel(f"{index}: weight_map must name .safetensors files of its folder, got {name!r}")
    return sorted(files)
