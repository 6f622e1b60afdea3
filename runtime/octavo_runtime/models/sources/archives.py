"""The files of a model out of tar archives, such as the layers of an image."""

import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from octavo_runtime.models.loading.safetensors_files import INDEX
from octavo_runtime.models.loading.selection import ModelNotFound, beside_weights, kept_as, weights


def unpack(model: str, archives: Sequence[Path], into: Path) -> list[str]:
    """Writes what serving needs of a model to a folder, and returns the names. A file of a later archive replaces one
    of the same name. Of a whole file system it is the outermost folder with a config.json or a .gguf file. Links are
    passed over. Raises ModelNotFound and OSError."""
    try:
        where = {name: path for path in archives for name in _names(path)}
        root = _root(model, list(where))
        names = [name.relative_to(root).as_posix() for name in where if name.is_relative_to(root)]
        heavy = weights(model, names, None, lambda: _one(where, root, into / "index"))
        wanted = list(dict.fromkeys((*heavy, *beside_weights(names))))
        for path in archives:
            _extract(path, {root / name: kept_as(name) for name in wanted if where[root / name] == path}, into)
    except (tarfile.TarError, EOFError) as error:
        raise ModelNotFound(f"model: {model} has a layer that is no whole tar archive: {error}") from None
    return [kept_as(name) for name in wanted]


def _names(archive: Path) -> list[PurePosixPath]:
    with tarfile.open(archive) as tar:
        return [_clean(member.name) for member in tar if member.isreg()]


def _clean(name: str) -> PurePosixPath:
    return PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", ".", "..")))


def _root(model: str, names: Sequence[PurePosixPath]) -> PurePosixPath:
    folders = [name.parent for name in names if name.name == "config.json" or name.suffix == ".gguf"]
    if not folders:
        raise ModelNotFound(f"model: the archives of {model} hold neither a config.json nor a .gguf file")
    return min(folders, key=lambda folder: (len(folder.parts), folder))


def _one(where: dict[PurePosixPath, Path], root: PurePosixPath, into: Path) -> Path:
    """The index of weights, before all else."""
    into.mkdir(exist_ok=True)
    _extract(where[root / INDEX], {root / INDEX: INDEX}, into)
    return into / INDEX


def _extract(archive: Path, names: Mapping[PurePosixPath, str], into: Path) -> None:
    """names: of the files in the archive, with those that they get."""
    if not names:
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            name = _clean(member.name)
            if name in names and member.isreg() and (content := tar.extractfile(member)) is not None:
                path = into / names[name]
                path.parent.mkdir(exist_ok=True)
                with path.open("wb") as out:
                    shutil.copyfileobj(content, out, 2**20)
