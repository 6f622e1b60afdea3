"""What is asked of a quantisation, and the quantization_config that its output carries. Free of torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Method = Literal["awq", "gptq", "fp8", "int8", "squeezellm"]
METHODS: tuple[Method, ...] = ("awq", "gptq", "fp8", "int8", "squeezellm")

FP8_BLOCK = 128  # rows and columns, as DeepSeek's checkpoints have them
FEWEST_TOKENS = 256  # that an expert is calibrated by: where fewer chose it, others' join them
DAMPING = 0.01  # of GPTQ's Hessian, a share of the mean of its diagonal


class CannotQuantize(ValueError):
    """One line that names what is asked for, its bound and what it is."""


@dataclass(frozen=True)
class Recipe:
    """bits: of a weight. group_size: inputs that share a scale, 0 for all; of AWQ and GPTQ. act_order: GPTQ groups the
    inputs in the order of their size, the largest first. blocks: FP8 has a scale for each block, else for each output.
    outliers: share of the weights that SqueezeLLM keeps apart as they are. samples: calibration texts, of sample_tokens
    tokens each."""

    method: Method
    bits: int
    group_size: int = 0
    act_order: bool = False
    blocks: bool = False
    outliers: float = 0.0
    samples: int = 128
    sample_tokens: int = 512

    @property
    def needs_inputs(self) -> bool:
        """Whether weights are chosen by what they multiply."""
        return self.method in ("awq", "gptq", "squeezellm")

    @property
    def takes_experts(self) -> bool:
        """Whether the format has a layout of mixtures of experts: nobody published one in SqueezeLLM's."""
        return self.method != "squeezellm"

    def configuration(self, kept: Sequence[str] = ()) -> dict[str, Any]:
        """quantization_config of config.json. kept: the modules of the layers that stay as they are."""
        size = self.group_size or -1
        match self.method:
            case "awq":
                return {
                    "quant_method": "awq",
                    "bits": 4,
                    "group_size": size,
                    "zero_point": True,
                    "version": "gemm",
                    "modules_to_not_convert": list(kept) or None,
                }
            case "gptq":
                return {
                    "quant_method": "gptq",
                    "bits": self.bits,
                    "group_size": size,
                    "desc_act": self.act_order,
                    "sym": True,
                    "lm_head": False,
                    "damp_percent": DAMPING,
                    "true_sequential": False,
                    "static_groups": not self.act_order,
                    "checkpoint_format": "gptq",
                } | ({"dynamic": {rf"-:^{re.escape(name)}$": {} for name in kept}} if kept else {})
            case "squeezellm":
                return {"quant_method": "squeezellm", "wbits": 4}
            case "int8":
                return _compressed("int-quantized", "int", kept)
            case "fp8" if self.blocks:
                return {
                    "quant_method": "fp8",
                    "fmt": "e4m3",
                    "activation_scheme": "dynamic",
                    "weight_block_size": [FP8_BLOCK, FP8_BLOCK],
                    "modules_to_not_convert": ["lm_head", *kept],
                }
            case "fp8":
                return _compressed("float-quantized", "float", kept)


def make_recipe(
    method: str,
    *,
    bits: int | None,
    group_size: int | None,
    act_order: bool,
    fp8_scales: str | None,
    outliers: float | None,
    samples: int,
    sample_tokens: int,
) -> Recipe:
    """The recipe of a command line, None for what is left out. Raises CannotQuantize, also for an option that the
    method has no use for."""
    if method not in METHODS:
        raise CannotQuantize(f"method: must be one of {', '.join(METHODS)}, got {method!r}")
    known = next(name for name in METHODS if name == method)
    allowed = {"awq": (4,), "gptq": (4, 8), "squeezellm": (4,)}.get(method, (8,))
    for name, given, users in (
        ("group-size", group_size is not None, ("awq", "gptq")),
        ("act-order", act_order, ("gptq",)),
        ("fp8-scales", fp8_scales is not None, ("fp8",)),
        ("outliers", outliers is not None, ("squeezellm",)),
    ):
        if given and method not in users:
            raise CannotQuantize(f"{name}: must be left out for method {method}; it is of {' and '.join(users)}")
    if bits is not None and bits not in allowed:
        raise CannotQuantize(f"bits: must be {' or '.join(map(str, allowed))} for method {method}, got {bits}")
    if group_size is not None and group_size != -1 and group_size < 8:
        raise CannotQuantize(f"group-size: must be -1 (all inputs) or at least 8, got {group_size}")
    if outliers is not None and not 0 <= outliers <= 0.05:
        raise CannotQuantize(f"outliers: must be from 0 to 0.05 of the weights, got {outliers}")
    grouped = method in ("awq", "gptq")
    return Recipe(
        known,
        bits or allowed[0],
        max(128 if group_size is None else group_size, 0) if grouped else 0,
        act_order,
        fp8_scales == "block",
        (0.0045 if outliers is None else outliers) if method == "squeezellm" else 0.0,
        samples,
        sample_tokens,
    )


def _compressed(layout: str, kind: str, kept: Sequence[str]) -> dict[str, Any]:
    """compressed-tensors': a scale for each output, and activations of 8 bits with a scale for each token."""
    of_both = {"num_bits": 8, "type": kind, "symmetric": True, "group_size": None}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "global_compression_ratio": None,
        "kv_cache_scheme": None,
        "ignore": ["lm_head", *kept],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**of_both, "strategy": "channel", "dynamic": False},
                "input_activations": {**of_both, "strategy": "token", "dynamic": True},
                "output_activations": None,
            }
        },
    }
