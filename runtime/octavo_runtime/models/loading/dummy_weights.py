"""Random weights, to measure a model's shape without its checkpoint."""

import math

import torch

from octavo_kernels.quantized_linear import Factors
from octavo_kernels.quantized_linear.formats import SUPER, Format
from octavo_runtime.models.latent_projections import latent_projections
from octavo_runtime.models.loading.experts import expert_weights
from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor
from octavo_runtime.models.loading.tensor_shapes import layer_projections
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix
from octavo_runtime.quantization.scheme import Scheme

_SPREAD = 0.02
_DEVIATIONS = {4: 4.6, 8: 74.0}  # of integers that are all as likely, by bits


def dummy_reader(spec: ModelSpec, device: torch.device, dtype: torch.dtype, seed: int) -> ReadTensor:
    """A source of random weights (norms are ones), of projections in as few bits as the spec says, but
    for a GGUF file's."""
    generator = torch.Generator(device).manual_seed(seed)
    scheme = spec.quantization
    is_stored = scheme is not None and not scheme.at_load and scheme.values != "blocks"
    narrow = _stored_narrow(spec, scheme) if scheme is not None and is_stored else frozenset()

    def read(name: str, shape: tuple[int, ...]) -> StoredTensor:
        if scheme is not None and name in narrow:
            return random_matrix(scheme, math.prod(shape[:-1]), shape[-1], generator)
        if name.endswith(("_blocks", "_scales")):
            return torch.full(shape, 120, device=device, dtype=torch.uint8)
        if "norm" in name:
            return torch.ones(shape, device=device, dtype=dtype)
        return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, _SPREAD, generator=generator)

    return read


def _stored_narrow(spec: ModelSpec, scheme: Scheme) -> frozenset[str]:
    if spec.encoder is not None:
        return frozenset()
    names = [
        f"{spec.prefix_of(index)}{name}.weight"
        for index in range(spec.num_layers)
        for part in layer_projections(spec, index)
        for name in part.rows
    ]
    if spec.latent is not None:
        every = range(spec.num_layers)
        names += [f"{spec.prefix_of(index)}{name}.weight" for index in every for name in latent_projections(spec)]
    names += [spec.prefix_of(index) + name for index in spec.expert_layers for name in expert_weights(spec)]
    return frozenset(name for name in names if scheme.covers(name.removesuffix(".weight")))


def random_matrix(scheme: Scheme, rows: int, columns: int, generator: torch.Generator) -> GroupedMatrix:
    """A weight whose numbers have a deviation of about _SPREAD, without outliers or an order of its columns."""
    device = generator.device
    high, wide = scheme.group[0] or rows, scheme.group[1] or columns
    groups = -(-rows // high), -(-columns // wide)
    zeros = codebook = None
    if scheme.values == "fp8":
        values = torch.empty(rows, columns, device=device).normal_(generator=generator).to(torch.float8_e4m3fn)
        deviation = 1.0
    elif scheme.values == "codes":
        values = torch.randint(0, 16, (rows, columns), device=device, dtype=torch.uint8, generator=generator)
        codebook, deviation = torch.linspace(-1, 1, 16, device=device), 0.6
    else:
        first, kind = (0, torch.uint8) if scheme.bits == 4 else (-128, torch.int8)
        values = torch.randint(
            first, first + 2**scheme.bits, (rows, columns), device=device, dtype=kind, generator=generator
        )
        deviation = _DEVIATIONS[scheme.bits]
        if scheme.bits == 4 or scheme.has_zeros:
            zeros = torch.full((rows, groups[1]), 8.0 if scheme.bits == 4 else 0.0, device=device)
    scales = torch.full(groups, _SPREAD / deviation, device=device)
    return GroupedMatrix(values, scales, (high, wide), zeros, codebook, rounds_inputs=scheme.rounds_inputs)


def random_blocks(form: Format, rows: int, columns: int, generator: torch.Generator) -> QuantizedMatrix:
    """A weight in the blocks of a GGUF file."""
    device = generator.device

    def whole(first: int, end: int, kind: torch.dtype, wide: int) -> torch.Tensor:
        return torch.randint(first, end, (rows, columns // wide), dtype=kind, device=device, generator=generator)

    values = whole(-128, 128, torch.int8, 1) if form.bits == 8 else whole(0, 2**form.bits, torch.uint8, 1)
    deviation = 2**form.bits / 3.5
    if not form.is_nested:
        scales = torch.full((rows, columns // form.group), _SPREAD / deviation, device=device)
        return QuantizedMatrix(values, scales, -scales if form.has_minimum else None, form)
    factors = torch.full((rows, columns // SUPER), _SPREAD / deviation / 32, device=device)
    scales = whole(-64, 64, torch.int8, form.group)
    minimums = whole(0, 64, torch.uint8, form.group) if form.has_minimum else None
    return QuantizedMatrix(values, scales, minimums, form, Factors(factors, -factors if form.has_minimum else None))
