"""A model of Llama-3.1-8B's shape with random weights serves on a GPU, over real HTTP."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from octavo_runtime.models.loading.files import locate
from octavo_runtime.text.tokenizer_conversion import tokenizer_folder

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "eos_token_id": 128001,
}

pytestmark = pytest.mark.gpu
pytest.importorskip("fastapi", reason="needs the server's packages", exc_type=ImportError)


@pytest.fixture(scope="module")
def base_url(builtin_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama-8b")
    (folder / "config.json").write_text(json.dumps(LLAMA_8B))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(tokenizer_folder(locate(builtin_model))) / name, folder / name)
    started = time.monotonic()
    command = [sys.executable, "-m", "octavo_runtime", "serve", str(folder), "--load-format", "dummy"]
    command += ["--device", "cuda", "--port", "0", "--served-name", "llama", "--max-model-len", "32768"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = re.search(r"http://\S+", server.stdout.readline())[0]
            ready = server.stdout.readline()
            assert "ready in" in ready
            print(f"\n{ready.strip()}; {time.monotonic() - started:.1f} s since the process started")
            yield url
        finally:
            server.terminate()
            assert server.wait(60) == 0


async def stream(client: httpx.AsyncClient, prompt: list[int], tokens: int) -> tuple[float, float]:
    """Seconds to the first token, and to the last."""
    body = {"model": "llama", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    started = time.monotonic()
    first = None
    usage = None
    async with client.stream("POST", "/completions", json=body) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.monotonic() - started
                usage = json.loads(line[6:]).get("usage") or usage
    assert usage["completion_tokens"] == tokens
    return first, time.monotonic() - started


@pytest.mark.parametrize(("streams", "prompt_len"), [(1, 128), (32, 512), (4, 20_000)])
async def test_streams_get_their_tokens(base_url, streams, prompt_len):
    prompts = [[(7 * row + 13 * place) % 120_000 for place in range(prompt_len)] for row in range(streams)]
    async with httpx.AsyncClient(base_url=base_url, timeout=300) as client:
        results = await asyncio.gather(*(stream(client, prompt, 64) for prompt in prompts))
    slowest_first, slowest = max(first for first, _ in results), max(last for _, last in results)
    print(f"\n{streams} streams, {prompt_len} in, 64 out: first token {slowest_first:.2f} s, all {slowest:.2f} s")
