"""From the tokenizer inside a GGUF file to the files that `tokenizers` reads. Converting takes some seconds, so it is
done once: the result lies beside the GGUF file (`octavo prepare`) or in the cache."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from octavo_runtime.model.files import ModelFiles

# Part of the cache's key: raise it when the conversion's result changes.
_VERSION = 1
_HEADER_BYTES = 8 * 2**20
_WRITTEN = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


class TokenizerUnavailable(ValueError):
    """The model has no tokenizer that can be used. One line for a person."""


def tokenizer_folder(files: ModelFiles) -> Path:
    """The folder with the model's tokenizer.json, chat template and end-of-sequence tokens. The tokenizer of a GGUF
    file is converted on first use, into $OCTAVO_CACHE (~/.cache/octavo by default)."""
    if files.gguf is None or (files.folder / "tokenizer.json").is_file():
        return files.folder
    folder = _cache() / "tokenizers" / _key(files.gguf)
    if not (folder / "tokenizer.json").is_file():
        print(f"octavo: converting the tokenizer of {files.gguf.name}, once; it takes some seconds", file=sys.stderr)
        _convert_aside(files.gguf, folder)
    return folder


def prepare(files: ModelFiles) -> Path:
    """Writes a GGUF file's tokenizer beside it, so that no start converts it again. Returns the folder it is in."""
    if files.gguf is not None and not (files.folder / "tokenizer.json").is_file():
        converted = tokenizer_folder(files)
        # tokenizer.json last: it marks the rest as complete.
        for name in reversed(_WRITTEN):
            shutil.copyfile(converted / name, files.folder / f".{name}.part")
            (files.folder / f".{name}.part").replace(files.folder / name)
    return files.folder


def convert(gguf: Path, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and generation_config.json from the metadata of `gguf`."""
    from gguf import GGUFReader
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as alone:  # transformers would mix in what lies beside the file
        (Path(alone) / gguf.name).symlink_to(gguf.resolve())
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=gguf.name).backend_tokenizer
    reader = GGUFReader(gguf)

    def metadata(key: str) -> Any:
        field = reader.get_field(f"tokenizer.{key}")
        return None if field is None else field.contents()

    # The file's own word on special tokens: transformers swaps bos and eos for some kinds of file.
    ids = {name: metadata(f"ggml.{name}_token_id") for name in ("bos", "eos", "unknown", "padding", "eot", "eom")}
    names = {name: tokenizer.id_to_token(token) for name, token in ids.items() if token is not None}
    config = {
        "bos_token": names.get("bos"),
        "eos_token": names.get("eos"),
        "unk_token": names.get("unknown"),
        "pad_token": names.get("padding"),
        "chat_template": metadata("chat_template"),
    }
    if metadata("ggml.add_bos_token") is not None:
        bos = f"{names['bos']} " if metadata("ggml.add_bos_token") else ""
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos}$A", special_tokens=[(names["bos"], ids["bos"])] if bos else []
        )
    ends = [ids[name] for name in ("eos", "eot", "eom") if ids[name] is not None]
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(dict.fromkeys(ends))}))


def _convert_aside(gguf: Path, folder: Path) -> None:
    """Converts in a process of its own, so that this one never imports transformers; the folder appears complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        result = subprocess.run(
            [sys.executable, "-m", "octavo_runtime.tokenizer_conversion", str(gguf), work],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            raise TokenizerUnavailable(f"{gguf}: its tokenizer cannot be converted: {lines[-1]}")
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        for name in _WRITTEN:
            (Path(work) / name).rename(made / name)
    try:
        made.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(made)


def _cache() -> Path:
    return Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo")


def _key(gguf: Path) -> str:
    """The identity of a GGUF file: its size and the start, which holds the metadata."""
    with gguf.open("rb") as file:
        digest = hashlib.sha256(file.read(_HEADER_BYTES))
    digest.update(f"{gguf.stat().st_size} {_VERSION}".encode())
    return digest.hexdigest()[:24]


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
