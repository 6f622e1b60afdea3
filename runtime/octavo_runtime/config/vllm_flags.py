"""The flags of `vllm serve` (docs.vllm.ai, `vllm serve --help`), and what becomes of each here. Data:
cli.vllm_arguments reads it for `octavo serve`, config.keywords for `LLM`, whose arguments have the same names, and
docs/vllm-flags.md shows it."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["same", "renamed", "needless", "refused"]
Spell = Callable[[str], tuple[str, ...]]


@dataclass(frozen=True)
class Flag:
    """kind: `same` is Octavo's own flag too, `renamed` stands for another, `needless` asks for what is always so or
    cannot change an answer, `refused` has no counterpart. note: the other flag; why nothing is needed; or what to do
    instead. values: 0 for a switch. several: whether it may take more than one value. spell: its values as Octavo's
    flag takes them; none: leave the flag out; ValueError: the bound. only: of a needless flag, the values for which
    that is true."""

    kind: Kind
    note: str = ""
    values: Literal[0, 1] = 1
    several: bool = False
    spell: Spell = lambda value: (value,)
    only: tuple[str, ...] = ()
    either: bool = False  # a switch that is as needless when it is turned off

    def fault(self, said: str | bool) -> str:
        """Why what a needless flag asks for is not so here: of a switch on or off, or of a value; else empty."""
        if isinstance(said, bool):
            return "" if said or self.either else f"cannot be turned off here; {self.note}"
        if not self.only or said in self.only:
            return ""
        bound = self.only[0] if len(self.only) == 1 else f"one of {', '.join(self.only)}"
        return f"must be {bound}, got {said!r:.100}; {self.note}"


def _words(**words: str) -> Spell:
    """Other words for some values."""
    return lambda value: (words.get(value.replace("-", "_"), value),)


_DECIMAL = r"[0-9]{1,15}(?:\.[0-9]+)?"  # longer ones stay as they are, for their flag's bounds to refuse


def _length(value: str) -> tuple[str, ...]:
    """A number; auto and -1 are the default."""
    return () if value in ("auto", "-1") else _number(value)


def _number(value: str) -> tuple[str, ...]:
    """16k is 16,000 and 16K 16,384."""
    match = re.fullmatch(rf"({_DECIMAL})([kmgKMG])", value)
    if match is None:
        return (value,)
    power = "kmg".index(match[2].lower()) + 1
    base: int = 1000 if match[2].islower() else 1024
    return (str(int(float(match[1]) * base**power)),)


def _gibibytes(value: str) -> tuple[str, ...]:
    return (f"{int(float(value) * 1024)}Mi",) if re.fullmatch(_DECIMAL, value) else (value,)


def _json_list(value: str) -> tuple[str, ...]:
    try:
        listed = json.loads(value)
    except ValueError:
        return (value,)
    return tuple(map(str, listed)) if isinstance(listed, list) else (value,)


def _reranker(value: str) -> tuple[str, ...]:
    """Of all overrides those alone by which vLLM serves Qwen3-Reranker as it was published."""
    try:
        asked = json.loads(value)
    except ValueError:
        asked = None
    if asked != _QWEN3_RERANKER:
        raise ValueError(f"must be {json.dumps(_QWEN3_RERANKER)}, got {value!r:.200}; {_CONFIG}")
    return ("qwen3",)


def _same(spell: Spell = lambda value: (value,), *, values: Literal[0, 1] = 1, several: bool = False) -> Flag:
    return Flag("same", values=values, several=several, spell=spell)


def _renamed(
    to: str, spell: Spell = lambda value: (value,), *, values: Literal[0, 1] = 1, several: bool = False
) -> Flag:
    return Flag("renamed", to, values, several, spell)


def _always(why: str, *, either: bool = False) -> Flag:
    """A switch that is always on."""
    return Flag("needless", why, 0, either=either)


def _needless(why: str, *only: str) -> Flag:
    return Flag("needless", why, only=only)


def _refused(instead: str) -> Flag:
    return Flag("refused", instead)


_ONE_GPU = "all GPUs of an engine serve one copy of the model; run several servers behind a Service or `octavo nginx`"
_NO_LORA = "adapters are not supported; serve a model that they are merged into"
_NO_DRAFTS = "tokens are guessed by prompt lookup alone; set --speculative-config with the method ngram"
_TEXT = "models of text alone are served; leave it out"
_SCHEDULED = "the scheduler has no such setting; leave it out"
_CONFIG = "the model's own config.json counts; change it there"
_QWEN3_RERANKER = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}
_NOT_COMPILED = "nothing is compiled, and decoding runs as captured graphs"
_LOADING = "safetensors and GGUF files are mapped as they are"
_THINK = "deepseek_r1", "deepseek_v3", "qwen3", "glm45", "kimi_k2", "minimax_m2", "ernie45"
_TOOL_PARSERS = {
    "llama3_json": "llama3",
    "llama4_json": "llama3",
    "llama4_pythonic": "pythonic",
    "openai": "harmony",
    "qwen3_xml": "qwen3_coder",
}
_BACKEND = "llguidance works out every form of answer"
_TLS = "use --tls-client-ca, which asks every client for a certificate of that authority"

ALIASES = {
    "-tp": "--tensor-parallel-size", "-pp": "--pipeline-parallel-size", "-dp": "--data-parallel-size",
    "-q": "--quantization", "-O": "--optimization-level", "-asc": "--api-server-count", "-cc": "--compilation-config",
    "-ep": "--enable-expert-parallel", "-n": "--nnodes", "-r": "--node-rank", "-sc": "--speculative-config",
}  # fmt: skip

FLAGS: dict[str, Flag] = {
    # The model and its files
    "--tokenizer": _same(),
    "--tokenizer-mode": _needless("the tokenizers library reads tokenizer.json", "auto", "hf", "fast"),
    "--trust-remote-code": _same(values=0),
    "--dtype": _same(_words(half="float16", float="float32")),
    "--quantization": _same(_words(awq_marlin="awq", gptq_marlin="gptq")),
    "--load-format": _same(_words(safetensors="auto", gguf="auto", hf="auto")),
    "--max-model-len": _same(_length),
    "--generation-config": _same(),
    "--override-generation-config": _same(),
    "--seed": _same(),
    "--served-model-name": _renamed("--served-name", several=True),
    "--revision": _refused("write it into the model: hf://OWNER/NAME@REVISION"),
    "--tokenizer-revision": _refused("write it into --tokenizer: hf://OWNER/NAME@REVISION"),
    "--code-revision": _refused("write it into the model: hf://OWNER/NAME@REVISION"),
    "--hf-token": _refused("set the environment variable HF_TOKEN"),
    "--download-dir": _refused("set the environment variable HF_HOME"),
    "--hf-config-path": _refused(_CONFIG),
    "--hf-overrides": _renamed("--reranker", _reranker),
    "--rope-scaling": _refused(_CONFIG),
    "--rope-theta": _refused(_CONFIG),
    "--config-format": _needless("config.json is read", "auto", "hf"),
    "--model-impl": _needless("one decoder runs every family", "auto", "vllm"),
    "--task": _needless("every model answers and embeds", "auto", "generate", "embed", "embedding"),
    "--runner": _needless("every model answers and embeds", "auto", "generate", "pooling"),
    "--convert": _needless("every model answers and embeds", "auto", "none", "embed"),
    "--skip-tokenizer-init": _refused("the server needs the tokenizer; send token ids in `prompt` all the same"),
    "--model-loader-extra-config": _refused("files are read in one way; leave it out"),
    "--ignore-patterns": _needless("only the files that serving needs are downloaded"),
    "--safetensors-load-strategy": _needless(_LOADING),
    "--pt-load-map-location": _needless(_LOADING),
    "--use-tqdm-on-load": _always("loading shows no bar", either=True),
    "--max-parallel-loading-workers": _needless(_LOADING),
    "--logits-processors": _refused("send logit_bias, bad_words or structured_outputs"),
    "--enable-sleep-mode": _refused("stop the server; it starts within seconds"),
    # Memory
    "--block-size": _same(),
    "--gpu-memory-utilization": _same(),
    "--swap-space": _same(_gibibytes),
    "--kv-cache-memory-bytes": _renamed("--kv-cache-memory", _number),
    "--kv-cache-dtype": _same(_words(fp8_e4m3="fp8", bfloat16="auto", float16="auto")),
    "--calculate-kv-scales": _always("scales that a checkpoint lacks are found at its start"),
    "--num-gpu-blocks-override": _refused("set --kv-cache-memory"),
    "--cpu-offload-gb": _needless("weights stay on the GPU", "0"),
    "--enable-prefix-caching": _same(values=0),
    "--prefix-caching-hash-algo": _needless("prefixes are found by chained sha256"),
    "--disable-sliding-window": _refused("set --max-model-len within the window"),
    "--disable-hybrid-kv-cache-manager": _always("layers with a window always hold their window alone", either=True),
    "--kv-transfer-config": _refused("prefill and decode run in one engine; leave it out"),
    "--kv-events-config": _refused("events of the KV cache are not published; see /debug/blocks and /metrics"),
    # Scheduling
    "--max-num-seqs": _same(_number),
    "--max-num-batched-tokens": _same(_number),
    "--scheduling-policy": _same(),
    "--preemption-mode": _same(),
    "--enable-chunked-prefill": _always("long prompts run in chunks of --max-num-batched-tokens"),
    "--async-scheduling": _always("a step is planned while the one before it runs", either=True),
    "--disable-chunked-mm-input": _always(_TEXT.partition(";")[0], either=True),
    "--max-num-partial-prefills": _refused(_SCHEDULED),
    "--max-long-partial-prefills": _refused(_SCHEDULED),
    "--long-prefill-token-threshold": _refused(_SCHEDULED),
    "--scheduler-delay-factor": _refused(_SCHEDULED),
    "--scheduler-cls": _refused(_SCHEDULED),
    "--num-scheduler-steps": _needless("steps are planned one ahead"),
    "--multi-step-stream-outputs": _always("every token is streamed as it comes", either=True),
    "--stream-interval": _needless("every token is streamed as it comes", "1"),
    "--use-v2-block-manager": _always("there is one block manager", either=True),
    "--num-lookahead-slots": _needless("guessed tokens take the slots that a step has left"),
    "--disable-async-output-proc": _always("answers are written in another process", either=True),
    # Devices and kernels
    "--device": _same(),
    "--tensor-parallel-size": _same(),
    "--pipeline-parallel-size": _same(),
    "--data-parallel-size": _needless(_ONE_GPU, "1"),
    "--data-parallel-size-local": _needless(_ONE_GPU, "1"),
    "--data-parallel-address": _refused(_ONE_GPU),
    "--data-parallel-rpc-port": _refused(_ONE_GPU),
    "--data-parallel-rank": _refused(_ONE_GPU),
    "--data-parallel-start-rank": _refused(_ONE_GPU),
    "--data-parallel-backend": _refused(_ONE_GPU),
    "--data-parallel-hybrid-lb": _refused(_ONE_GPU),
    "--data-parallel-external-lb": _refused(_ONE_GPU),
    "--enable-expert-parallel": _same(values=0),
    "--headless": _always("node 0 alone serves the API"),
    "--nnodes": _same(),
    "--node-rank": _same(),
    "--master-addr": _same(),
    "--master-port": _same(),
    "--decode-context-parallel-size": _needless(_ONE_GPU, "1"),
    "--distributed-executor-backend": _needless("the engine starts a process for each GPU itself"),
    "--worker-use-ray": _refused(_ONE_GPU),
    "--worker-cls": _refused("the engine has one kind of worker; leave it out"),
    "--worker-extension-cls": _refused("the engine has one kind of worker; leave it out"),
    "--disable-custom-all-reduce": _always("NCCL adds up what GPUs share", either=True),
    "--enforce-eager": _always(_NOT_COMPILED, either=True),
    "--compilation-config": _needless(_NOT_COMPILED),
    "--optimization-level": _needless(_NOT_COMPILED),
    "--cuda-graph-sizes": _needless(_NOT_COMPILED),
    "--cudagraph-capture-sizes": _needless(_NOT_COMPILED),
    "--max-cudagraph-capture-size": _needless(_NOT_COMPILED),
    "--max-seq-len-to-capture": _needless(_NOT_COMPILED),
    "--attention-backend": _needless("attention runs on Octavo's own kernels"),
    "--disable-cascade-attn": _always("attention runs on Octavo's own kernels", either=True),
    "--additional-config": _refused("every setting is a flag: octavo serve --help"),
    # Answers
    "--tool-call-parser": _same(_words(**_TOOL_PARSERS)),
    "--enable-auto-tool-choice": _always("tools are always read; --tool-call-parser none refuses them"),
    "--tool-parser-plugin": _refused("calls are read by one of the parsers of --tool-call-parser"),
    "--tool-server": _refused("functions are run by the client; leave it out"),
    "--exclude-tools-when-tool-choice-none": _always("tools that may not be called are not shown to the model"),
    "--reasoning-parser": _same(_words(**dict.fromkeys(_THINK, "think"), openai_gptoss="harmony")),
    "--enable-reasoning": _always("--reasoning-parser alone says whether reasoning is told apart"),
    "--guided-decoding-backend": _needless(_BACKEND),
    "--guided-decoding-disable-any-whitespace": _refused("write white space into the schema's own form, or a grammar"),
    "--structured-outputs-config": _needless(_BACKEND),
    "--logprobs-mode": _needless("log-probabilities are the model's own", "raw_logprobs"),
    "--max-logprobs": _needless("requests may ask for up to 20", *map(str, range(21))),
    "--chat-template": _same(),
    "--chat-template-content-format": _needless("parts of text reach the template as one text", "auto", "string"),
    "--default-chat-template-kwargs": _refused("send chat_template_kwargs with a request"),
    "--trust-request-chat-template": _refused("a template in a request would be a program from outside"),
    "--response-role": _needless("answers have the role assistant", "assistant"),
    "--return-tokens-as-token-ids": _refused("send return_token_ids with a request"),
    "--enable-prompt-tokens-details": _always("usage always has prompt_tokens_details"),
    "--enable-force-include-usage": _refused("send stream_options.include_usage with a request"),
    "--speculative-config": _same(),
    "--speculative-model": _refused(_NO_DRAFTS),
    "--num-speculative-tokens": _refused(_NO_DRAFTS),
    "--enable-lora": _refused(_NO_LORA),
    "--lora-modules": _refused(_NO_LORA),
    "--max-loras": _refused(_NO_LORA),
    "--max-lora-rank": _refused(_NO_LORA),
    "--max-cpu-loras": _refused(_NO_LORA),
    "--lora-extra-vocab-size": _refused(_NO_LORA),
    "--lora-dtype": _refused(_NO_LORA),
    "--fully-sharded-loras": _refused(_NO_LORA),
    "--enable-prompt-adapter": _refused(_NO_LORA),
    "--prompt-adapters": _refused(_NO_LORA),
    "--limit-mm-per-prompt": _refused(_TEXT),
    "--mm-processor-kwargs": _refused(_TEXT),
    "--media-io-kwargs": _refused(_TEXT),
    "--allowed-local-media-path": _refused(_TEXT),
    "--allowed-media-domains": _refused(_TEXT),
    "--mm-processor-cache-gb": _needless(_TEXT.partition(";")[0]),
    "--disable-mm-preprocessor-cache": _always(_TEXT.partition(";")[0], either=True),
    "--language-model-only": _always(_TEXT.partition(";")[0], either=True),
    "--pooler-config": _refused("send `pooling` with a request for embeddings"),
    "--override-pooler-config": _refused("send `pooling` with a request for embeddings"),
    # The server
    "--host": _same(),
    "--port": _same(),
    "--uds": _refused("listen on --host and --port"),
    "--api-key": _same(several=True),
    "--api-server-count": _renamed("--api-workers"),
    "--ssl-keyfile": _renamed("--tls-key"),
    "--ssl-certfile": _renamed("--tls-cert"),
    "--ssl-ca-certs": _refused(_TLS),
    "--ssl-cert-reqs": _refused(_TLS),
    "--ssl-ciphers": _refused("TLS 1.2 and newer with the ciphers of OpenSSL's own list are spoken"),
    "--enable-ssl-refresh": _always("changed certificates are taken over within seconds"),
    "--allowed-origins": _renamed("--cors-origin", _json_list),
    "--allow-credentials": _refused("keys are sent in a header, which needs no credentials"),
    "--allowed-methods": _needless("GET and POST are what the API has", '["*"]'),
    "--allowed-headers": _needless("every header is allowed", '["*"]'),
    "--root-path": _refused("let the proxy take the prefix off"),
    "--middleware": _refused("put a proxy before the server"),
    "--h11-max-incomplete-event-size": _refused("set --max-body"),
    "--h11-max-header-count": _refused("heads are bounded as they are; leave it out"),
    "--enable-request-id-headers": _always("every answer has X-Request-Id"),
    "--disable-fastapi-docs": _refused("the API's description has no secrets; guard it with --api-key"),
    "--enable-offline-docs": _always("the docs page needs nothing from outside"),
    "--enable-server-load-tracking": _always("/load always answers"),
    "--enable-tokenizer-info-endpoint": _refused("the tokenizer's files are the model's own"),
    "--disable-frontend-multiprocessing": _always("the engine has its own process", either=True),
    "--enable-log-requests": _renamed("--log-prompts", values=0),
    "--disable-log-requests": _renamed("--no-log-prompts", values=0),
    "--enable-log-outputs": _refused("answers are not logged; --log-prompts logs the prompts"),
    "--max-log-len": _needless("logged prompts are cut short"),
    "--disable-log-stats": _renamed("--no-log-stats", values=0),
    "--disable-uvicorn-access-log": _renamed("--no-access-log", values=0),
    "--disable-access-log-for-endpoints": _refused("health checks and scrapes are not logged below --log-level debug"),
    "--uvicorn-log-level": _renamed("--log-level", _words(trace="debug", critical="error")),
    "--log-config-file": _refused("set --log-format and --log-level"),
    "--log-error-stack": _refused("an error's trace is in the server's own log"),
    "--otlp-traces-endpoint": _refused("set --otlp-endpoint, which speaks OTLP over HTTP (port 4318)"),
    "--collect-detailed-traces": _refused("a request's trace has its queue, prefill and decode as they are"),
    "--show-hidden-metrics-for-version": _needless("no metric is hidden"),
    "--grpc": _refused("the API is HTTP alone"),
    "--config": _refused("write the flags out, or an LLMService"),
}  # fmt: skip
