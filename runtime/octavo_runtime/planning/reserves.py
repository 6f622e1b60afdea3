"""What is kept free of weights and KV cache: for the processes, a step's temporary tensors and captured graphs."""

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.expansion_bounds import expanded_size, most_elements, tokens_together
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.limits import token_budget
from octavo_runtime.planning.parameters import element_size
from octavo_runtime.planning.quantized_weights import unpacked_bytes

CUDA_CONTEXT_BYTES = 2**30
"""What the driver and the CUDA context take of a GPU's memory, as nvidia-smi counts it, before the first tensor."""

CPU_PROCESS_BYTES = 3 * 2**27
"""What the server's two processes take at least beside the model, on a CPU: with less memory they do not start."""

_CPU_BUSY_BYTES = 2**29  # what they take once they answer, the step's temporary tensors left out

MOST_CAPTURED = 1024
"""Sequences of the largest decode step that is captured as a CUDA graph."""

MOST_CAPTURED_TOKENS = 2048
"""Tokens of the largest step with prompts that is captured, in pieces. Above, the GPU computes for longer than the host
needs to launch it kernel by kernel."""

_GRAPH_BYTES = 2**27  # of the decode steps' graphs themselves, and the block tables of one group of layers
_PIECES_BYTES = 3 * 2**20  # of the graphs of one piece in all sizes
_WORKSPACE_BYTES = 2**28  # cuBLAS's and the kernels' own buffers
_SAMPLED_ROWS = 256


def activation_bytes(spec: ModelSpec, tokens: int, sequences: int, element_bytes: int) -> int:
    """Upper bound of the temporary tensors of a step of `tokens`, of which `sequences` draw a token: the MLP's inner
    state, the sampled rows' float32 scores and a weight that is unpacked for many rows live at once."""
    rows = min(tokens, max(sequences, _SAMPLED_ROWS))
    return _step_bytes(spec, tokens, sequences, rows, element_bytes) + _WORKSPACE_BYTES


def cpu_headroom(spec: ModelSpec, config: EngineConfig) -> int:
    """What a process that computes on a CPU may take beyond CPU_PROCESS_BYTES while it answers. What is advised has
    room for it; a server with less may run all the same, and is not refused."""
    tokens, sequences = token_budget(config, "cpu"), config.max_num_seqs
    step = _step_bytes(spec, tokens, sequences, min(tokens, sequences), element_size(config))
    return _CPU_BUSY_BYTES - CPU_PROCESS_BYTES + step


def _step_bytes(spec: ModelSpec, tokens: int, sequences: int, rows: int, element_bytes: int) -> int:
    """Of a step whose scores are those of `rows`."""
    scores = 0 if spec.encoder is not None else 4 * 4 * spec.vocab_size * rows
    latents = 4 * (sequences * _absorbed_size(spec) + _expanded_elements(spec, tokens))
    return tokens * inner_size(spec) * 4 + latents + scores + unpacked_bytes(spec, element_bytes)


def _absorbed_size(spec: ModelSpec) -> int:
    """Elements of the queries and the sums of latents of a sequence with one new token."""
    return spec.num_heads * (2 * spec.latent.rank + spec.rotated) if spec.latent is not None else 0


def _expanded_elements(spec: ModelSpec, tokens: int) -> int:
    """Upper bound of the elements of what latent attention expands at once, of the latents themselves, and of what a
    step of `tokens` finds with it."""
    if spec.latent is None:
        return 0
    size = expanded_size(spec.head_dim, spec.rotated, spec.latent.value_dim)
    together = max(spec.max_position, tokens_together(size))
    attended = tokens * spec.num_heads * spec.head_dim
    return most_elements(spec.max_position, size) + together * spec.cached_token.width + attended


def inner_size(spec: ModelSpec) -> int:
    """Upper bound of the elements of a step's temporary tensors, a token, the scores left out."""
    latent = spec.latent
    latents = 0 if latent is None else 2 * (latent.rank + (latent.query_rank or 0)) + spec.rotated
    return 4 * spec.hidden_size + spec.qkv_size + latents + _mlp_size(spec)


def _mlp_size(spec: ModelSpec) -> int:
    """The same of the feed-forward block."""
    dense = 3 * spec.intermediate_size
    if spec.experts is None:
        return dense
    has, routing = spec.experts, spec.experts.routing
    routed = routing.top_k * (has.intermediate_size + spec.hidden_size) + 8 * routing.num_experts
    sparse = routed + 3 * spec.hidden_size + 3 * has.shared_size
    return sparse if len(has.layers) == spec.num_layers else max(dense, sparse)


def graph_bytes(spec: ModelSpec, config: EngineConfig) -> int:
    """What captured steps hold: temporary tensors, what crosses from piece to piece, the graphs, and where the GPUs of
    several ranks leave each other messages."""
    if spec.encoder is not None:
        return 0
    tokens = min(token_budget(config, "cuda"), MOST_CAPTURED_TOKENS)
    crossing = tokens * (spec.qkv_size + spec.num_heads * spec.attended_dim + 2 * spec.hidden_size)
    size = element_size(config)
    elements = arena_elements(spec, min(config.max_num_seqs, MOST_CAPTURED), tokens, size) + crossing
    more_tables = (len(group_windows(spec)) - 1) * 2 * config.max_num_seqs * -(-spec.max_position // config.block_size)
    held = _GRAPH_BYTES + (spec.num_layers + 1) * _PIECES_BYTES + 4 * more_tables
    if config.tensor_parallel_size > 1:
        held += mailbox_bytes(spec.hidden_size)
    return elements * size + held


def arena_elements(spec: ModelSpec, sequences: int, tokens: int, element_bytes: int) -> int:
    """Elements of the temporary tensors of a captured decode step of `sequences`, or of pieces of `tokens`, which take
    turns; with a weight that is unpacked for many rows."""
    piece = 3 * spec.hidden_size + _mlp_size(spec)
    unpacked = unpacked_bytes(spec, element_bytes) // element_bytes
    return max(sequences * (spec.vocab_size + inner_size(spec) + _absorbed_size(spec)), tokens * piece) + unpacked


def mailbox_bytes(hidden: int) -> int:
    """What others write to a GPU's memory, see octavo_kernels.peer_sum: of two turns 1,024 rows, shared out among the
    senders, in which two numbers take 64 bits."""
    return 2 * 1024 * hidden // 2 * 8


def reserve_bytes(spec: ModelSpec, config: EngineConfig) -> int:
    """What a GPU must keep free of weights and KV cache: a step's temporary tensors, and the captured graphs."""
    tokens, size = token_budget(config, "cuda"), element_size(config)
    return activation_bytes(spec, tokens, config.max_num_seqs, size) + graph_bytes(spec, config)
