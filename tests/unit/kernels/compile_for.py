"""Program: compiles the Triton kernels for a GPU that is not there, by calling each op on CPU tensors.

The arguments: the GPU's compute capability such as 90, then cases: "dtype" or "dtype/part of a case's name". Prints a
JSON line for each compiled variant: op, case, dtype, kernel and bytes of shared memory.
"""

import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import product
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime import JITFunction, driver

import octavo_kernels
from octavo_kernels import gpu
from octavo_kernels.experts import Weights
from octavo_kernels.experts import hopper as hopper_experts
from octavo_kernels.gated_linear import cases as gated_cases
from octavo_kernels.gated_linear import gated_linear
from octavo_kernels.grouped_linear import GroupedWeights, many_rows, one_row
from octavo_kernels.grouped_linear import cases as grouped_cases
from octavo_kernels.grouped_linear import hopper as hopper_grouped
from octavo_kernels.grouped_linear import interleaved as interleaved_grouped
from octavo_kernels.paged_decode import hopper
from octavo_kernels.paged_prefill import hopper as hopper_prefill
from octavo_kernels.peer_sum import cases as peer_sum_cases
from octavo_kernels.skinny_linear import cases as skinny_cases
from octavo_kernels.skinny_linear import skinny_add_linear, skinny_linear, skinny_rotary_write_kv

# By compute capability: A100, L4, H100, B200.
GPUS = {
    80: gpu.Gpu(processors=108, shared_memory=163 << 10),
    89: gpu.Gpu(processors=58, shared_memory=99 << 10),
    90: gpu.H100,
    100: gpu.Gpu(processors=148, shared_memory=227 << 10),
}


def forms(op: str, capability: int) -> Iterator[Callable[..., Any]]:
    yield getattr(import_module(f"octavo_kernels.{op}.triton"), op)
    if op == "paged_decode" and capability == 90:
        yield hopper.paged_decode
    if op == "paged_prefill" and capability == 90:
        yield planned_prefill
    if op == "grouped_linear" and capability == 90:
        yield grouped_where_it_fits
    if op == "experts" and capability == 90:
        yield experts_where_it_fits


def planned_prefill(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    _: int,
    scale: float,
    out: Tensor,
    causal: bool,
    scales: Tensor | None = None,
    **others: Any,
) -> None:
    if causal and not others and q.itemsize == 2 and hopper_prefill.fits(q.shape[1], k_cache):
        plan = hopper_prefill.HopperPrefillPlan(torch.zeros(len(seq_lens), 2, dtype=torch.int32))
        hopper_prefill.paged_prefill(q, k_cache, v_cache, block_tables, seq_lens, query_start, scale, plan, out, scales)


def grouped_where_it_fits(x: Tensor, weight: GroupedWeights, bias: Tensor | None, out: Tensor) -> None:
    for form in (one_row, hopper_grouped, interleaved_grouped):
        if form.fits(x, weight):
            form.grouped_linear(x, weight, bias, out)


def experts_where_it_fits(hidden: Tensor, gate_up: Weights, down: Weights, *others: Any) -> None:
    if hopper_experts.fits(hidden, gate_up, down):
        hopper_experts.experts(hidden, gate_up, down, *others)


def main(capability: int, selections: list[str]) -> None:
    target = GPUTarget("cuda", capability, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: 0, get_current_stream=lambda device: 0, get_current_target=lambda: target
        )
    )
    gpu.H100 = GPUS[capability]
    run = JITFunction.run
    compiled: list[CompiledKernel] = []

    def compile_only(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled.append(run(kernel, *arguments, grid=grid, warmup=True, **options))

    JITFunction.run = compile_only

    def tell(op: str, case: str, dtype: str) -> None:
        for kernel in compiled:
            variant = {"op": op, "case": case, "dtype": dtype, "kernel": kernel.name}
            print(json.dumps({**variant, "shared": kernel.metadata.shared}))
        compiled.clear()

    for op in octavo_kernels.__all__:
        cases = import_module(f"octavo_kernels.{op}.cases")
        for selection in selections:
            dtype, _, name = selection.partition("/")
            for case in cases.CASES:
                if name not in case.name:
                    continue
                for form in forms(op, capability):
                    if form is hopper.paged_decode and (dtype == "float32" or not case.suits_hopper):
                        continue
                    cases.error(form, case, getattr(torch, dtype), "cpu")
                    tell(op, case.name, dtype)
    for peer_case in peer_sum_cases.CASES:
        peer_sum_cases.error(peer_case, torch.bfloat16, "cpu")
        tell("peer_sum", peer_case.name, "bfloat16")
    if capability == 90:  # there are no other forms of it
        for skinny in skinny_cases.CASES:
            skinny_linear(*skinny_cases.operands(skinny, torch.bfloat16, "cpu"), gate=skinny.gate)
            tell("skinny_linear", skinny.name, "bfloat16")
        for gated in gated_cases.CASES:
            x, weight, bias = skinny_cases.operands(gated, torch.bfloat16, "cpu")
            gated_linear(x, weight, gated.gate, bias)
            tell("gated_linear", gated.name, "bfloat16")
        for adding in skinny_cases.ADD_CASES:
            skinny_cases.error_of_sums(skinny_add_linear, adding, "cpu")
            tell("skinny_linear", adding.name, "bfloat16")
        for heads in skinny_cases.HEADS_CASES:
            skinny_cases.error_of_heads(skinny_rotary_write_kv, heads, torch.bfloat16, "cpu")
            tell("skinny_linear", heads.name, "bfloat16")
        for many in grouped_cases.MANY_ROWS_CASES:
            grouped_cases.error(many_rows.grouped_linear, many, torch.bfloat16, "cpu")
            tell("grouped_linear", many.name, "bfloat16")
        for many in grouped_cases.MANY_ROWS_GATED_CASES:
            grouped_cases.error_of_gated(many_rows.grouped_linear, many, torch.bfloat16, "cpu")
            tell("grouped_linear", many.name, "bfloat16")
        for ended, has_zeros in product(grouped_cases.ENDED_CASES, (False, True)):
            grouped_cases.error_of_ended(one_row.grouped_linear, ended, torch.bfloat16, "cpu", has_zeros)
            tell("grouped_linear", ended.name, "bfloat16")
        for adding in grouped_cases.ONE_ROW_ADD_CASES:
            grouped_cases.error_of_sums(one_row.grouped_add_linear, adding, "cpu")
            tell("grouped_linear", adding.name, "bfloat16")
        for heads in grouped_cases.ONE_ROW_HEADS_CASES:
            grouped_cases.error_of_heads(one_row.grouped_rotary_write_kv, heads, torch.bfloat16, "cpu")
            tell("grouped_linear", heads.name, "bfloat16")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
