"""Program: the errors of every Triton kernel on its tiny cases, as JSON. Needs TRITON_INTERPRET=1."""

import json
from importlib import import_module

import torch

import octavo_kernels

DTYPES = (torch.float32, torch.float16)  # the interpreter's bfloat16 is wrong

errors = {}
for op in octavo_kernels.__all__:
    form = getattr(import_module(f"octavo_kernels.{op}.triton"), op)
    cases = import_module(f"octavo_kernels.{op}.cases")
    for case in cases.TINY_CASES:
        for dtype in DTYPES:
            errors[f"{op}/{case.name}/{dtype}"] = cases.error(form, case, dtype, "cpu")
print(json.dumps(errors))
