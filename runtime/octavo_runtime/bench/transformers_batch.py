"""transformers' `generate` on static batches, as a program of its own: torch's threads wait there as they do by
default, not as the engine sets them.

Reads JSON from standard input, a line at a time: {"folder", "gguf"}, then batches {"prompts", "output_len"}, whose
prompts are equally long. Answers each line with a line: the model with its type, a batch with its seconds."""

import json
import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging


def main() -> None:
    """Loads the model in the type that the engine computes in, and measures each batch as it comes."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    task = json.loads(sys.stdin.readline())
    gguf = {"gguf_file": task["gguf"]} if task["gguf"] else {}
    model = AutoModelForCausalLM.from_pretrained(task["folder"], dtype=torch.bfloat16, **gguf)
    print(model.dtype, flush=True)
    for line in sys.stdin:
        batch = json.loads(line)
        print(_seconds(model, batch["prompts"], batch["output_len"]), flush=True)


def _seconds(model: Any, prompts: list[list[int]], output_len: int) -> float:
    """Greedy, and by length alone: past end-of-sequence tokens."""
    ids = torch.tensor(prompts)
    started = time.perf_counter()
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        min_new_tokens=output_len,
        max_new_tokens=output_len,
        do_sample=False,
        eos_token_id=-1,
        pad_token_id=0,
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
