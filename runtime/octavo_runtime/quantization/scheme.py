"""How a checkpoint stores its projections in fewer bits, as its configuration says. Free of torch."""

import re
from dataclasses import dataclass
from typing import Literal

Format = Literal[
    "awq",
    "gptq",
    "gptq_v2",
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "nvfp4-pack-quantized",
    "fp8",
    "bitsandbytes-4bit",
    "bitsandbytes-8bit",
    "squeezellm",
    "gguf",
]
Values = Literal["integers", "fp8", "codes", "blocks"]

ROUNDED_ROWS = 64
"""Up to so many rows a GPU waits for weights of 8 bits, whatever it multiplies them by: only more are rounded to such
numbers too, where that is meant (Scheme.rounds_inputs)."""

DENSITY = 2**16
"""Weights that Scheme.density counts the bytes of."""


class UnsupportedQuantization(ValueError):
    """One line that names the field, what it may be, and what it is."""


@dataclass(frozen=True)
class Scheme:
    """Numbers of few bits times the scale of their group: the one arithmetic of all formats.

    group: the rows and columns of a weight [out, in] that share a scale, 0 for all; of several rows only FP8's blocks.
    has_zeros: integers have a zero point beside the scale. has_order: groups are of input channels in an order of their
    own. kept: patterns of the modules that are stored as they are. at_load: they are made of weights of 16 bits.
    rounds_inputs: what is multiplied by stored numbers of 8 bits is meant to be rounded to such ones too. density:
    of a GGUF file, whose blocks are of several types, bytes of DENSITY weights on average. cache_type: of the KV cache
    that the checkpoint's scales of keys and values, if it has some, are meant for: fp8, int8, or in its own words what
    is neither."""

    format: Format
    bits: int
    values: Values = "integers"
    group: tuple[int, int] = (1, 0)
    has_zeros: bool = False
    has_order: bool = False
    kept: tuple[str, ...] = ()
    at_load: bool = False
    rounds_inputs: bool = False
    density: int = 0
    cache_type: str = "fp8"

    def covers(self, module: str) -> bool:
        """Whether a module such as model.layers.0.self_attn.q_proj is stored in fewer bits."""
        return not any(re.search(pattern, module) for pattern in self.kept)

    def num_bytes(self, rows: int, columns: int) -> int:
        """Bytes that a weight [rows, columns] takes in the form that a GPU computes with: GroupedWeights of
        octavo_kernels.grouped_linear."""
        if self.values == "blocks":
            return rows * columns * self.density // DENSITY
        if self.values == "codes" and self.format == "squeezellm":
            books = 2 << self.bits
            return rows * columns * self.bits // 8 + rows * (books + 2)
        high, wide = self.group
        groups = -(-rows // (high or rows)) * -(-columns // (wide or columns))
        of_group = 4 if self.values == "fp8" else 2 + 2 * self.has_zeros
        return rows * columns * self.bits // 8 + groups * of_group + columns * 8 * self.has_order

    def few_rows_bytes(self, rows: int, columns: int) -> int:
        """Bytes of what a CPU keeps packed for few rows beside the weight in 16 bits (octavo_kernels.quantized_linear);
        0 where it has no such form."""
        wide = self.group[1] or columns
        if not self.is_packable or columns % 32 or wide % 32:
            return 0
        return -(-rows // 32) * columns * (20 if self.bits == 4 else 34)

    @property
    def is_unpacked(self) -> bool:
        """Whether a GPU unpacks a weight to multiply many rows by it: not where it rounds these to the weight's 8 bits.
        GPUs before Ada, which cannot multiply FP8, unpack it all the same, in the memory that no plan gives away."""
        return not (self.rounds_inputs and self.group == (1, 0))

    @property
    def keeps_experts(self) -> bool:
        """Whether the experts of a mixture stay in few bits: what is beside the numbers and their scales (an order of
        the inputs, outliers) is no part of the one product of all experts."""
        return not (self.has_order or self.format == "squeezellm")

    @property
    def is_packable(self) -> bool:
        """Whether a CPU's loops for few rows compute with such weights, as far as sizes allow it."""
        return self.values == "integers" and not self.has_order and (self.bits == 4 or not self.has_zeros)
