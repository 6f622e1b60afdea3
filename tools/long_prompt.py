"""A prompt of 8,000 tokens to a 7B model on a CPU while another answer streams: `python tools/long_prompt.py`.

Serves Mistral-7B's shape with random weights (15 GB of memory) by `octavo serve` with default settings, streams an
answer, sends the long prompt beside it, and asks for what Kubernetes asks for, as often as it does. Prints what was
seen, and ends with 1 where liveness was red, the stream broke or the long prompt got no answer."""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from octavo_runtime.bench.server import serving
from octavo_runtime.models.loading.files import locate
from octavo_runtime.text.tokenizer_conversion import tokenizer_folder

SHAPE = {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 49152,  # the tokenizer's
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "rope_theta": 1e6,
    "torch_dtype": "bfloat16",
}
PROBE_SECONDS, PROBE_TIMEOUT = 5.0, 5.0  # livenessProbe's, see operator/octavo_operator/resources/pod_template.py
STREAM_TOKENS = 4096


@dataclass
class Seen:
    """What the stream and the probes saw, until `over`."""

    over: threading.Event = field(default_factory=threading.Event)
    gaps: list[float] = field(default_factory=list)  # seconds between two tokens of the stream
    stream_error: str = ""
    probes: list[float] = field(default_factory=list)  # seconds
    red: list[str] = field(default_factory=list)


def stream(url: str, seen: Seen) -> None:
    """Takes a long answer, token by token."""
    body = {"model": "m", "prompt": "Once", "max_tokens": STREAM_TOKENS, "stream": True, "ignore_eos": True}
    last = time.monotonic()
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=600) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                if "error" in json.loads(line[6:]):
                    seen.stream_error = line
                now = time.monotonic()
                seen.gaps.append(now - last)
                last = now
            if seen.over.is_set():
                return
    seen.stream_error = seen.stream_error or "the stream ended before the long prompt's answer"


def probe(url: str, seen: Seen) -> None:
    """Asks as the kubelet does."""
    while not seen.over.wait(PROBE_SECONDS):
        began = time.monotonic()
        try:
            status = httpx.get(f"{url}/health/live", timeout=PROBE_TIMEOUT).status_code
        except httpx.HTTPError as error:
            seen.red.append(repr(error))
            continue
        seen.probes.append(time.monotonic() - began)
        if status != 200:
            seen.red.append(f"HTTP {status}")


def measure(url: str, tokens: int) -> bool:
    """Whether all went well."""
    seen = Seen()
    threads = [threading.Thread(target=task, args=(url, seen)) for task in (stream, probe)]
    for thread in threads:
        thread.start()
    while len(seen.gaps) < 20:  # the stream alone
        time.sleep(0.1)
    alone = sorted(seen.gaps[1:])[len(seen.gaps) // 2]
    first = len(seen.gaps)
    began = time.monotonic()
    body = {"model": "m", "prompt": list(range(100, 100 + tokens)), "max_tokens": 2, "ignore_eos": True}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=7200)
    seconds = time.monotonic() - began
    beside = sorted(seen.gaps[first:])
    seen.over.set()
    for thread in threads:
        thread.join()
    print(f"the long prompt: HTTP {answer.status_code} after {seconds:.0f} s, {tokens / seconds:.1f} tokens/s")
    print(f"a token of the stream, alone: {alone:.2f} s; beside it: {len(beside)} tokens, median "
          f"{beside[len(beside) // 2]:.2f} s, longest {beside[-1]:.2f} s")  # fmt: skip
    slowest = max(seen.probes, default=0.0)
    print(f"liveness: {len(seen.probes)} probes, slowest {slowest:.3f} s, red: {seen.red or 'never'}")
    print(f"the stream: {seen.stream_error or 'went on'}")
    return answer.status_code == 200 and not seen.red and not seen.stream_error


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(SHAPE | {"num_hidden_layers": arguments.layers}))
        for file in tokenizer_folder(locate("builtin://smollm2")).glob("tokenizer*.json"):
            shutil.copy(file, folder)
        with serving(name, ["--load-format", "dummy", "--device", "cpu", "--served-name", "m"]) as server:
            return 0 if measure(server.base_url.removesuffix("/v1"), arguments.tokens) else 1


if __name__ == "__main__":
    sys.exit(main())
