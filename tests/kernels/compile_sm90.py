"""Program: compiles the Triton kernels for an H100 without a GPU, by calling each op on CPU tensors.

The arguments select cases: "dtype" or "dtype/part of a case's name". Prints a JSON line for each compiled variant:
op, case, dtype, kernel and bytes of shared memory.
"""

import json
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime import JITFunction, driver

import octavo_kernels

H100_DRIVER = SimpleNamespace(
    get_current_device=lambda: 0,
    get_current_stream=lambda device: 0,
    get_current_target=lambda: GPUTarget("cuda", 90, 32),
)


def main(selections: list[str]) -> None:
    driver.set_active(H100_DRIVER)
    run = JITFunction.run
    compiled: list[CompiledKernel] = []

    def compile_only(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled.append(run(kernel, *arguments, grid=grid, warmup=True, **options))

    JITFunction.run = compile_only
    for op in octavo_kernels.__all__:
        form = getattr(import_module(f"octavo_kernels.{op}.triton"), op)
        cases = import_module(f"octavo_kernels.{op}.cases")
        for selection in selections:
            dtype, _, name = selection.partition("/")
            for case in cases.CASES:
                if name in case.name:
                    compiled.clear()
                    cases.error(form, case, getattr(torch, dtype), "cpu")
                    for kernel in compiled:
                        variant = {"op": op, "case": case.name, "dtype": dtype, "kernel": kernel.name}
                        print(json.dumps({**variant, "shared": kernel.metadata.shared}))


if __name__ == "__main__":
    main(sys.argv[1:])
