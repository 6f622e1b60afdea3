"""Presets: named defaults for several settings of the engine at once. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass

STEP_TOKENS = {"cuda": 8448, "cpu": 512}
"""Most tokens of a step where nothing else is said. On a GPU 64 for each of the 132 processors of an H100 or H200: then
the tiles of a product, of 128 rows, keep all of them busy to its end."""


@dataclass(frozen=True)
class Preset:
    """`settings`: fields of EngineConfig, each with its value in configuration and the reason. `beside`: what goes well
    with it and is left to the user, since it changes answers or takes more GPUs."""

    purpose: str
    settings: Mapping[str, tuple[int | float, str]]
    beside: str

    @property
    def values(self) -> dict[str, int | float]:
        return {name: value for name, (value, _) in self.settings.items()}


PRESETS: dict[str, Preset] = {
    "small-gpu": Preset(
        purpose="a GPU of up to 24 GB, perhaps one that also drives a screen",
        settings={
            "gpu_memory_utilization": (0.85, "leaves the screen and other programs their share"),
            "max_num_seqs": (32, "more sequences would only preempt each other in a small KV cache"),
            "max_num_batched_tokens": (2048, "a step's temporary tensors shrink with it, and the KV cache grows"),
        },
        beside="a checkpoint of 4 bits",
    ),
    "large-gpu": Preset(
        purpose="a GPU of 80 GB or more that serves one model alone",
        settings={
            "gpu_memory_utilization": (0.95, "5% of a large memory is room enough for what is not planned"),
            "max_num_seqs": (512, "a large KV cache holds that many, and each adds little to a step's time"),
        },
        beside="several GPUs, where one does not hold the model",
    ),
    "throughput": Preset(
        purpose="most tokens a second over all requests, as for batch work",
        settings={
            "gpu_memory_utilization": (0.95, "more blocks, so more sequences run at once"),
            "max_num_seqs": (256, "the weights are read once for all sequences of a step"),
            "max_num_batched_tokens": (
                STEP_TOKENS["cuda"],
                "prompts run in large chunks, which use the arithmetic units best",
            ),
        },
        beside="`kvCacheDtype: fp8`, which holds about twice the tokens, and `quantization: fp8`",
    ),
    "latency": Preset(
        purpose="a short and even time between tokens, as for a conversation",
        settings={
            "max_num_seqs": (16, "few sequences share a step, so each step is short"),
            "max_num_batched_tokens": (512, "a long prompt runs in small chunks and holds the others up little"),
        },
        beside="`quantization: fp8` or `int8`: weights of 8 bits are read in half the time",
    ),
}

PRESET_FIELDS = frozenset(name for preset in PRESETS.values() for name in preset.settings)
"""Fields whose default depends on the preset."""


def describe_presets() -> str:
    """Each preset and what it is for, in one line."""
    return "; ".join(f"{name}, {preset.purpose}" for name, preset in PRESETS.items())
