"""GPUs by name: memory, bandwidth and arithmetic, for planning without one at hand."""

import re
from dataclasses import dataclass

_MIB = 2**20
_MOST_MEMORY = 2**50
MIN_CAPABILITY = (8, 0)
# What a product's label says beside the name of the chip and its memory.
_FORM = r"nvidia|tesla|geforce|pcie|sxm[0-9]?|hbm[0-9]e?"
_UNITS = {"M": 10**6, "G": 10**9, "T": 10**12, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True)
class Gpu:
    """memory: bytes, as nvidia-smi shows them. bandwidth: bytes a second. half_flops: dense operations a second in
    bfloat16, or in float16 where the chip has no bfloat16. capability: CUDA compute capability. The last three are
    None where only the memory is known."""

    name: str
    memory: int
    bandwidth: float | None
    half_flops: float | None
    capability: tuple[int, int] | None

    @property
    def is_supported(self) -> bool:
        """Whether Triton, in which the kernels are written, can compile for it; taken for granted where unknown."""
        return self.capability is None or self.capability >= MIN_CAPABILITY


class UnknownGpu(ValueError):
    """No such GPU, or no such amount of memory. One line for a person."""


def _gpu(name: str, mebibytes: int, gigabytes_s: int, teraflops: float, capability: tuple[int, int]) -> Gpu:
    return Gpu(name, mebibytes * _MIB, gigabytes_s * 1e9, teraflops * 1e12, capability)


# Memory: nvidia-smi. Bandwidth and TFLOP/s: NVIDIA's data sheets, SXM form where there are two, without sparsity; for
# GeForce with float32 accumulation.
GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("t4", 15_360, 320, 65, (7, 5)),
        _gpu("v100-16gb", 16_384, 900, 125, (7, 0)),
        _gpu("v100-32gb", 32_768, 900, 125, (7, 0)),
        _gpu("rtx-3090", 24_576, 936, 71, (8, 6)),
        _gpu("rtx-4090", 24_564, 1_008, 165, (8, 9)),
        _gpu("a10", 23_028, 600, 125, (8, 6)),
        _gpu("l4", 23_034, 300, 121, (8, 9)),
        _gpu("l40s", 46_068, 864, 362, (8, 9)),
        _gpu("a100-40gb", 40_960, 1_555, 312, (8, 0)),
        _gpu("a100-80gb", 81_920, 2_039, 312, (8, 0)),
        _gpu("h100-80gb", 81_559, 3_350, 989, (9, 0)),
        _gpu("h200-141gb", 143_771, 4_800, 989, (9, 0)),
        _gpu("b200", 183_359, 8_000, 2_250, (10, 0)),
    )
}


def too_old(gpu: Gpu) -> str:
    """What is wrong with a GPU that is not supported, in one line."""
    assert gpu.capability is not None
    needed, has = (".".join(map(str, capability)) for capability in (MIN_CAPABILITY, gpu.capability))
    return f"gpu: must have compute capability {needed} or newer, which the kernels need, got {has} ({gpu.name})"


def find_gpu(name: str, memory: str) -> Gpu:
    """The GPU of a name, or an unnamed one of as much memory as `memory` says, such as 80GB (10^9) or 80GiB (2^30);
    with both, the GPU with that memory in place of its own. Raises UnknownGpu."""
    if not name:
        if not memory:
            raise UnknownGpu(f"gpu: must be named, or gpu_memory given, such as 80GB; there is: {', '.join(GPUS)}")
        return Gpu(f"{memory} GPU", parse_memory(memory), None, None, None)
    found = GPUS.get(name.lower())
    if found is None:
        raise UnknownGpu(f"gpu: must be one of {', '.join(GPUS)}, got {name!r}; or give gpu_memory, such as 80GB")
    if memory:
        return Gpu(found.name, parse_memory(memory), found.bandwidth, found.half_flops, found.capability)
    return found


def gpu_of_product(product: str) -> Gpu | None:
    """The GPU that the device plugin's label nvidia.com/gpu.product names, such as NVIDIA-A100-SXM4-80GB or Tesla-T4;
    None for one that is not in the table, and for a share of one."""
    words = [word for word in product.lower().split("-") if not re.fullmatch(_FORM, word)]
    exact = GPUS.get("-".join(words))
    if exact is not None:
        return exact
    of_family = [gpu for name, gpu in GPUS.items() if name.split("-")[:-1] == words]
    return of_family[0] if len(of_family) == 1 else None


def parse_memory(text: str) -> int:
    """Bytes in `80GB` or `80G` (decimal) and in `80GiB` or `80Gi` (binary). Raises UnknownGpu."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([MGT]i?)B?", text)
    size = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 1 <= size <= _MOST_MEMORY:
        example = "80GB (10^9 bytes each) or 80GiB (2^30)"
        raise UnknownGpu(f"gpu_memory: must be an amount such as {example}, at most 1024TiB, got {text!r}")
    return round(size)
