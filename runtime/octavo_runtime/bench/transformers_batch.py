"""transformers' `generate` on static batches, as a program of its own: torch's threads wait there as they do by
default, not as the engine sets them.

Reads {"folder", "gguf", "batches": [{"prompts", "output_len"}]} as JSON from standard input, and prints the seconds of
each batch as a JSON list. The prompts of a batch are equally long."""

import json
import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging


def main() -> None:
    """Loads the model in the type that the engine computes in, warms up on the first batch, and measures each."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    task = json.load(sys.stdin)
    gguf = {"gguf_file": task["gguf"]} if task["gguf"] else {}
    model = AutoModelForCausalLM.from_pretrained(task["folder"], dtype=torch.bfloat16, **gguf)
    _seconds(model, task["batches"][0]["prompts"], output_len=4)
    print(json.dumps([_seconds(model, batch["prompts"], batch["output_len"]) for batch in task["batches"]]))


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
