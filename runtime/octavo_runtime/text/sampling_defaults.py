"""What a request is answered with where it leaves sampling parameters out: the model's own generation_config.json, by
vLLM's rules (docs.vllm.ai, --generation-config). Free of torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.user_path import user_path
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams
from octavo_runtime.text.tokenizer_files import read_if_there

SamplingDefaults = Mapping[str, Any]
"""Fields of SamplingParams, such as {"temperature": 0.6, "max_tokens": 512}."""

# Names in a generation_config.json, and in SamplingParams.
_FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
_OWN = ("vllm", "none")
_FILE = "generation_config.json"


def load_sampling_defaults(config: EngineConfig, files: ModelFiles) -> SamplingDefaults:
    """The defaults that `config` asks for. ValueError, in one line, names the file and the field that is out of
    bounds."""
    path = _path(config.generation_config, files)
    found = {} if path is None else read_if_there(path)
    defaults = _checked(found, str(path))
    override = config.override_generation_config
    if override is None:
        return defaults
    return {**defaults, **_checked(msgspec.json.decode(override), "override_generation_config")}


def describe(defaults: SamplingDefaults) -> str:
    """`temperature 0.6, top_p 0.9`."""
    return ", ".join(f"{name} {value}" for name, value in defaults.items())


def _path(chosen: str, files: ModelFiles) -> Path | None:
    if chosen in _OWN:
        return None
    if chosen == "auto":
        return files.folder / _FILE
    path = user_path(chosen) / _FILE
    if not path.is_file():
        raise ValueError(f"generation_config: must be auto, vllm, none or a folder with a {_FILE}, got {chosen!r}")
    return path


def _checked(found: Mapping[str, Any], source: str) -> dict[str, Any]:
    defaults = {field: found[name] for name, field in _FIELDS.items() if found.get(name) is not None}
    try:
        SamplingParams(**defaults)
    except InvalidParameter as error:
        raise ValueError(f"{source}: {error}; generation_config vllm leaves the model's defaults out") from None
    return defaults
