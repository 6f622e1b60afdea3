"""The commands of `octavo bench`. Each imports what it measures when it runs."""

import importlib.util
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from octavo_runtime.config.options import BadOption, number

if TYPE_CHECKING:
    from octavo_runtime.bench.report import Report


def _end_with_children(context: typer.Context) -> None:
    """A bench that is told to end takes the servers that it started with it."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: what it runs is ending
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    context.call_on_close(lambda: signal.signal(signal.SIGTERM, before))


bench = typer.Typer(no_args_is_help=True, help="Measure the engine on this machine.", callback=_end_with_children)


Model = Annotated[str, typer.Option(help="Model to measure.")]
Dtype = Annotated[str, typer.Option(help="Type of weights and KV cache.")]
Seed = Annotated[int, number("Seed of prompts, lengths and arrivals.", 0, 2**63 - 1)]
Out = Annotated[str, typer.Option(help="Folder or .png file of the picture.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Requests = Annotated[int, number("Requests in all.", 2, 100_000)]

_BUILTIN = "builtin://smollm2"

Shape = Annotated[str, typer.Option(help="Model to measure, or a known one's shape with random weights.")]
MaxSeqs = Annotated[int, number("Most sequences computed in one step.", 1, 4096)]
MaxModelLen = Annotated[int, number("Longest sequence served.", 16, 4_194_304)]
BatchedTokens = Annotated[int | None, typer.Option(help="Most tokens of a step. Default: the engine's.")]
Cache = Annotated[str | None, typer.Option(help="Size of the KV cache. Default: the engine's.")]
Weights = Annotated[
    str, typer.Option(help="auto (the model's own), int4 (groups of 128) or w8a8 (a known shape's), int8 or fp8.")
]
CacheDtype = Annotated[str, typer.Option(help="auto, fp8 or int8: the numbers of the KV cache.")]
Ranks = Annotated[int, number("Devices that share each layer.", 1, 64)]
Stages = Annotated[int, number("Stages of layers, each of so many devices.", 1, 64)]
Peers = Annotated[
    str, typer.Option(help="Figures to compare with: auto (those saved for this device), none or a file.")
]
Save = Annotated[str | None, typer.Option(help="File to save the figures in, for --peers.")]
Profile = Annotated[str | None, typer.Option(help="Folder for traces and the time of each kernel.")]

_SHAPE = "meta-llama/Llama-3.1-8B"


@bench.command()
def memory(
    model: Model = _BUILTIN,
    lengths: Annotated[str, typer.Option(help="The first mix: tokens of each sequence, repeated.")] = (
        "512,1024,2048,512"
    ),
    max_model_len: Annotated[int, number("Longest sequence served.", 16, 4_194_304)] = 2048,
    sequences: Annotated[int, number("Longest sequences that the KV cache holds.", 1, 4096)] = 4,
    requests: Annotated[int, number("Requests; twice as many in the lognormal mix.", 2, 2048)] = 8,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    out: Out = ".",
    as_json: Json = False,
) -> int:
    """Paged against preallocated KV cache: wasted memory, and sequences that run at once in the same memory."""

    def measure() -> "Report":
        from octavo_runtime.bench.memory import run

        return run(model, dtype, lengths, max_model_len, sequences, requests, seed)

    return _publish("memory", measure, out, as_json)


@bench.command()
def batching(
    model: Model = _BUILTIN,
    requests: Requests = 48,
    rows: Annotated[int, number("Requests computed in one step.", 1, 4096)] = 8,
    tokens: Annotated[int, number("Median length of the answers.", 1, 4096)] = 32,
    rate: Annotated[float, number("Requests a second, a Poisson process; 0: all at once.", 0, 10_000)] = 0.0,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    out: Out = ".",
    as_json: Json = False,
) -> int:
    """Continuous against static batching: throughput, busy rows, latency."""

    def measure() -> "Report":
        from octavo_runtime.bench.batching import run

        return run(model, dtype, requests, rows, tokens, rate, seed)

    return _publish("batching", measure, out, as_json)


@bench.command()
def prefix(
    model: Model = _BUILTIN,
    requests: Requests = 16,
    shared: Annotated[int, number("Tokens that all prompts begin with.", 1, 1_000_000)] = 512,
    own: Annotated[int, number("Further tokens of each prompt.", 1, 1_000_000)] = 32,
    tokens: Annotated[int, number("Tokens to generate for each.", 1, 4096)] = 16,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    out: Out = ".",
    as_json: Json = False,
) -> int:
    """Prompts that begin alike, with and without the prefix cache: time to first token, hit rate."""

    def measure() -> "Report":
        from octavo_runtime.bench.prefix import run

        return run(model, dtype, requests, shared, own, tokens, seed)

    return _publish("prefix", measure, out, as_json)


@bench.command()
def kv_cache(
    model: Model = _BUILTIN,
    prompt: Annotated[int, number("Tokens of the prompt.", 1, 1_000_000)] = 32,
    tokens: Annotated[int, number("Tokens to generate.", 2, 100_000)] = 256,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    out: Out = ".",
    as_json: Json = False,
) -> int:
    """Generating with and without a KV cache: time per token over the sequence's length."""

    def measure() -> "Report":
        from octavo_runtime.bench.kv_cache import run

        return run(model, dtype, prompt, tokens, seed)

    return _publish("kv-cache", measure, out, as_json)


@bench.command()
def chunked_prefill(
    model: Model = _BUILTIN,
    prompt: Annotated[int, number("Tokens of the long prompt.", 64, 1_000_000)] = 4096,
    running: Annotated[int, number("Answers under way when it arrives.", 1, 1024)] = 4,
    budgets: Annotated[str, typer.Option(help="Tokens of a step, one measurement each.")] = "64,128,256,512",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    out: Out = ".",
    as_json: Json = False,
) -> int:
    """What running answers notice of a long prompt, in chunks and whole: the longest gap between two tokens."""

    def measure() -> "Report":
        from octavo_runtime.bench.chunked_prefill import run

        return run(model, dtype, prompt, running, budgets, seed)

    return _publish("chunked-prefill", measure, out, as_json)


@bench.command()
def concurrency(
    model: Model = _BUILTIN,
    clients: Annotated[str, typer.Option(help="Clients at once, one measurement each.")] = "1,8,16,32",
    requests: Annotated[int, number("Requests of each client.", 1, 1024)] = 2,
    tokens: Annotated[int, number("Tokens to generate for each.", 1, 4096)] = 64,
    transformers: Annotated[bool, typer.Option(help="Measure transformers' generate, one by one, too.")] = True,
    dtype: Dtype = "auto",
    seed: Seed = 0,
    out: Out = ".",
    as_json: Json = False,
) -> int:
    """The HTTP server under more and more clients: throughput and latency, beside transformers one by one."""

    def measure() -> "Report":
        from octavo_runtime.bench.concurrency import run

        return run(model, dtype, clients, requests, tokens, transformers, seed)

    return _publish("concurrency", measure, out, as_json)


@bench.command()
def frontend(
    model: Model = _BUILTIN,
    streams: Annotated[int, number("Streams at once.", 1, 4096)] = 256,
    tokens: Annotated[int, number("Tokens of each.", 10, 8000)] = 400,
    rate: Annotated[int, number("Tokens a second, all streams together, for the latencies.", 1, 1_000_000)] = 20_000,
    api_workers: Annotated[int, number("API processes.", 1, 64)] = 1,
    out: Out = ".",
    as_json: Json = False,
) -> int:
    """The API process with tokens that cost nothing: streamed tokens a second, and what it adds to each."""

    def measure() -> "Report":
        from octavo_runtime.bench.frontend import run

        return run(model, streams, tokens, rate, api_workers)

    return _publish("frontend", measure, out, as_json)


@bench.command()
def scheduler(
    model: Annotated[str, typer.Option(help="Model whose tokenizer is taken; it computes nothing.")] = _BUILTIN,
    running: Annotated[int, number("Requests that run at once.", 1, 4096)] = 256,
    waiting: Annotated[str, typer.Option(help="Requests that wait, one measurement each.")] = "0,1000,10000,50000",
    prompts: Annotated[str, typer.Option(help="Prompts of an offline batch, one measurement each.")] = (
        "500,1000,2000,4000,8000,16000"
    ),
    steps: Annotated[int, number("Steps of which the median is told.", 1, 10_000)] = 200,
    seed: Seed = 0,
    out: Out = ".",
    as_json: Json = False,
) -> int:
    """The engine's own work with a device that costs nothing: CPU time a step, and a prompt of an offline batch."""

    def measure() -> "Report":
        from octavo_runtime.bench.scheduler import run

        return run(model, running, waiting, prompts, steps, seed)

    return _publish("scheduler", measure, out, as_json)


@bench.command()
def offline(
    workloads: Annotated[str, typer.Option(help="sharegpt, prefix or INxOUT, each with :COUNT, between commas.")] = (
        "sharegpt,1024x128,prefix"
    ),
    model: Shape = _SHAPE,
    weights: Weights = "auto",
    max_num_seqs: MaxSeqs = 256,
    max_num_batched_tokens: BatchedTokens = None,
    max_model_len: MaxModelLen = 32768,
    kv_cache_memory: Cache = None,
    kv_cache_dtype: CacheDtype = "auto",
    tensor_parallel_size: Ranks = 1,
    pipeline_parallel_size: Stages = 1,
    dtype: Dtype = "auto",
    peers: Peers = "auto",
    save: Save = None,
    profile: Profile = None,
    as_json: Json = False,
) -> int:
    """Throughput: requests that arrive at once, until the last one ends; greedy."""
    from octavo_runtime.bench.offline import run

    settings = _settings(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=max_model_len,
        kv_cache_memory=kv_cache_memory,
        kv_cache_dtype=kv_cache_dtype,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        dtype=dtype,
    )
    run(model, weights, settings, workloads, peers, save, profile, as_json=as_json)
    return 0


@bench.command()
def serve(
    workloads: Annotated[str, typer.Option(help="sharegpt, prefix or INxOUT, each with :COUNT, between commas.")] = (
        "sharegpt"
    ),
    rates: Annotated[str, typer.Option(help="Requests a second, Poisson processes; 0: all at once.")] = "0",
    model: Shape = _SHAPE,
    weights: Weights = "auto",
    max_num_seqs: MaxSeqs = 256,
    max_num_batched_tokens: BatchedTokens = None,
    max_model_len: MaxModelLen = 32768,
    kv_cache_memory: Cache = None,
    kv_cache_dtype: CacheDtype = "auto",
    tensor_parallel_size: Ranks = 1,
    pipeline_parallel_size: Stages = 1,
    dtype: Dtype = "auto",
    peers: Peers = "auto",
    save: Save = None,
    as_json: Json = False,
) -> int:
    """Throughput and latencies over HTTP: the requests of `offline`, streamed."""
    from octavo_runtime.bench.serve import run

    settings = _settings(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=max_model_len,
        kv_cache_memory=kv_cache_memory,
        kv_cache_dtype=kv_cache_dtype,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        dtype=dtype,
    )
    run(model, weights, settings, workloads, rates, peers, save, as_json=as_json)
    return 0


@bench.command()
def latency(
    points: Annotated[str, typer.Option(help="REQUESTS@CONTEXT, between commas.")] = (
        "1@128,1@2048,8@512,32@512,128@512,256@512,8@16384"
    ),
    model: Shape = _SHAPE,
    weights: Weights = "auto",
    max_num_seqs: MaxSeqs = 256,
    max_num_batched_tokens: BatchedTokens = None,
    max_model_len: MaxModelLen = 32768,
    kv_cache_memory: Cache = None,
    kv_cache_dtype: CacheDtype = "auto",
    tensor_parallel_size: Ranks = 1,
    pipeline_parallel_size: Stages = 1,
    dtype: Dtype = "auto",
    peers: Peers = "auto",
    save: Save = None,
    profile: Profile = None,
    as_json: Json = False,
) -> int:
    """Time to the first token of requests that arrive together, and from token to token."""
    from octavo_runtime.bench.latency import run

    settings = _settings(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=max_model_len,
        kv_cache_memory=kv_cache_memory,
        kv_cache_dtype=kv_cache_dtype,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        dtype=dtype,
    )
    run(model, weights, settings, points, peers, save, profile, as_json=as_json)
    return 0


def _settings(**options: object) -> dict[str, object]:
    """The engine's settings, without those that are left to it."""
    return {name: value for name, value in options.items() if value is not None}


@bench.command()
def compare(
    model: Model = _BUILTIN,
    isa: Annotated[
        Literal["native", "avx2"], typer.Option(help="Instructions to use: this machine's, or AVX2 alone.")
    ] = "native",
    rounds: Annotated[int, number("Rounds, in which the engines take turns; the best counts.", 1, 100)] = 2,
    transformers: Annotated[bool, typer.Option(help="Measure transformers' generate too.")] = True,
    build_llama_cpp: Annotated[
        bool, typer.Option("--build-llama-cpp", help="Build llama.cpp's server first: minutes, once.")
    ] = False,
) -> int:
    """Octavo beside transformers and llama.cpp on this CPU: one request, 16 at once, 64 of mixed lengths."""
    _require_extra()
    from octavo_runtime.bench.compare import run

    run(model, isa=isa, rounds=rounds, transformers=transformers, build_llama_cpp=build_llama_cpp)
    return 0


@bench.command()
def kernels(
    model: Annotated[str, typer.Option(help="A model that octavo plan knows, for its shape.")] = _SHAPE,
    parts: Annotated[str, typer.Option(help="What to measure, between commas.")] = (
        "products,prompts,experts,decodes,prefills"
    ),
    peers: Peers = "auto",
    save: Save = None,
    as_json: Json = False,
) -> int:
    """A layer's products and its attention on a GPU, each by itself, beside what the memory gives."""
    from octavo_runtime.bench.kernels import run

    run(model, parts, peers, save, as_json=as_json)
    return 0


@bench.command()
def quantizers(
    original: Annotated[str, typer.Argument(help="Folder of the model in 16 or 32 bits.")],
    quantized: Annotated[list[str], typer.Argument(help="Folders of it in fewer bits, whoever made them.")],
    text: Annotated[
        Path | None, typer.Option(help="Text file to judge by; else Python's own help texts, as octavo quantize.")
    ] = None,
    pieces: Annotated[int, number("Pieces of it, of the last ninth.", 1, 1024)] = 16,
    tokens: Annotated[int, number("Tokens of each.", 16, 32_768)] = 512,
    as_json: Json = False,
) -> int:
    """Perplexity, and KL divergence of the next token to the original's, of checkpoints in fewer bits."""
    from octavo_runtime.bench.quantizers import run

    run(original, quantized, text, pieces, tokens, as_json=as_json)
    return 0


@bench.command()
def speculation(
    model: Model = _BUILTIN,
    guesses: Annotated[int, number("Tokens guessed at once.", 1, 64)] = 4,
    longest: Annotated[int, number("Most of the last tokens that are compared.", 1, 64)] = 4,
    shortest: Annotated[int, number("Fewest of them that must be the same.", 1, 64)] = 2,
    tokens: Annotated[int, number("Tokens to generate of each text.", 1, 4096)] = 128,
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> int:
    """Texts that repeat themselves, and one that does not, with tokens guessed by prompt lookup and without."""
    from octavo_runtime.bench.speculation import run

    run(model, dtype, guesses, longest, shortest, tokens, as_json=as_json)
    return 0


@bench.command()
def startup(
    model: Model = _BUILTIN,
    starts: Annotated[int, number("Starts, one after another.", 1, 100)] = 3,
    tensor_parallel_size: Ranks = 1,
    pipeline_parallel_size: Stages = 1,
    as_json: Json = False,
) -> int:
    """From the start of a server's process to its first token: with an empty cache, and with what it kept."""
    from octavo_runtime.bench.startup import run

    settings = _settings(
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
    )
    run(model, starts, settings, as_json=as_json)
    return 0


def _publish(name: str, measure: Callable[[], "Report"], out: str, as_json: bool) -> int:
    """Measures and shows. What can be refused is refused before anything runs."""
    _require_extra()
    from octavo_runtime.bench.report import picture_path, publish

    picture = picture_path(out, name)
    publish(measure(), picture, as_json=as_json)
    return 0


def _require_extra() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise BadOption("octavo bench draws with matplotlib, which is not installed: pip install 'octavo[bench]'")
