"""The folder that a quantisation writes: a file for each layer as soon as it is done, so that a run that was killed is
taken up where it ended; config.json comes last, and makes it a model."""

import contextlib
import fcntl
import json
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from octavo_runtime.models.loading.json_file import read_object
from octavo_runtime.models.loading.safetensors_files import INDEX
from octavo_runtime.quantizer.recipe import CannotQuantize

_STATE = ".octavo-quantize.json"
_COUNTS = ".octavo-quantize-counts.json"
_UNFINISHED = ".partial"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".index.json")


class OutputFolder:
    """Holds a lock while it is open. `shards`: files that the tensors go into."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], shards: int) -> None:
        """identity: what the work is; a folder with unfinished work of another is refused. Raises CannotQuantize."""
        self.folder = folder
        self._shards = shards
        with _writing(folder):
            _make(folder)
            others = [path for path in folder.iterdir() if path.name not in (_STATE, _COUNTS)]
            is_ours = (folder / _STATE).is_file()
            if others and not is_ours:
                raise CannotQuantize(f"out: must be a new or an empty folder, got {folder}, which has {others[0].name}")
            self._lock = self._locked()
            self._begin(identity)

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def has(self, shard: int) -> bool:
        """Whether a file is written."""
        return self._path(shard).is_file()

    def read(self, shard: int) -> dict[str, torch.Tensor]:
        """The tensors of a file that is written. Raises CannotQuantize."""
        path = self._path(shard)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise CannotQuantize(f"out: {path} is damaged, delete it and run this again: {error}") from None

    def write(self, shard: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Writes a file, whole or not at all. Raises CannotQuantize."""
        path = self._path(shard)
        unfinished = path.with_name(path.name + _UNFINISHED)
        try:
            save_file(dict(sorted(tensors.items())), unfinished, {"format": "pt"})
            # The library lets nobody else read its files; all of a model are for the same readers.
            with contextlib.suppress(OSError):  # some file systems refuse it, which is no reason to lose the work
                unfinished.chmod(stat.S_IMODE((self.folder / _STATE).stat().st_mode))
            unfinished.replace(path)
        except (OSError, SafetensorError) as error:
            unfinished.unlink(missing_ok=True)
            raise CannotQuantize(f"out: {path} cannot be written: {error}") from None

    @property
    def counts(self) -> dict[str, int]:
        """What `count` was told, also by a run that was killed; by shard."""
        path = self.folder / _COUNTS
        return read_object(path, CannotQuantize) if path.is_file() else {}

    def count(self, shard: int, number: int) -> None:
        """Keeps a number beside a file, before it is written, for the report at the end of the work. Raises
        CannotQuantize."""
        with _writing(self.folder):
            self._write_json(_COUNTS, self.counts | {str(shard): number})

    def finish(self, model: Path, config: Mapping[str, Any]) -> int:
        """Writes the index, copies what lies beside the model's weights, and writes config.json. Bytes of the weights.
        Raises CannotQuantize. The work is unfinished until `close_work`."""
        where: dict[str, str] = {}
        size = 0
        for shard in range(self._shards):
            path = self._path(shard)
            size += path.stat().st_size
            with safe_open(path, framework="pt") as opened:
                where |= dict.fromkeys(opened.keys(), path.name)
        with _writing(self.folder):
            self._write_json(INDEX, {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))})
            for path in beside_weights(model):
                target = self.folder / path.relative_to(model)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            self._write_json("config.json", config)
        return size

    def close_work(self) -> None:
        """There is nothing left to resume."""
        (self.folder / _STATE).unlink()  # first: work that is resumed has its counts
        (self.folder / _COUNTS).unlink(missing_ok=True)

    def _path(self, shard: int) -> Path:
        return self.folder / f"model-{shard + 1:05}-of-{self._shards:05}.safetensors"

    def _locked(self) -> IO[str]:
        opened = (self.folder / _STATE).open("a+", encoding="utf-8")
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            opened.close()
            raise CannotQuantize(f"out: {self.folder} is being written by another octavo quantize") from None
        return opened

    def _begin(self, identity: Mapping[str, Any]) -> None:
        state = self.folder / _STATE
        wanted = json.loads(json.dumps(identity))
        if state.stat().st_size == 0:
            (self.folder / _COUNTS).unlink(missing_ok=True)  # of work that was done
            self._lock.write(json.dumps(wanted))
            self._lock.flush()
            return
        found = read_object(state, CannotQuantize)
        for name, value in wanted.items():
            if found.get(name) != value:
                had = found.get(name, "of before")
                raise CannotQuantize(
                    f"out: {self.folder} has unfinished work with {name} {had}, asked for is {value}; "
                    "ask for the same, or name another folder"
                )
        for path in self.folder.glob(f"*{_UNFINISHED}"):
            path.unlink()

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        unfinished = self.folder / (name + _UNFINISHED)
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self.folder / name)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CannotQuantize(f"out: must be a folder, got the file {folder}") from None


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Errors of the file system, as CannotQuantize."""
    try:
        yield
    except OSError as error:
        raise CannotQuantize(f"out: {folder} cannot be written: {error.strerror}") from None


def beside_weights(model: Path) -> list[Path]:
    """The files of a model's folder that are neither weights nor config.json."""
    return [
        path
        for path in sorted(model.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(model).parts)
        and not path.name.endswith(_WEIGHTS)
        and path != model / "config.json"
    ]
