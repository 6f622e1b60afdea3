"""The engine's memory arithmetic, free of torch: what the weights, a step and the KV cache cost, how many blocks that
leaves, and how long a request may be. The engine, `octavo plan` and the operator reckon with these same functions."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.units import parse_quantity
from octavo_runtime.layers.expansion_bounds import expanded_size, most_elements, tokens_together
from octavo_runtime.models.layer_groups import group_windows, layers_of_a_block, most_entries
from octavo_runtime.models.served import as_served
from octavo_runtime.models.shards import shard
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.models.stages import cut, stage_of
from octavo_runtime.planning.parameters import active_parameter_count, parameter_count, weight_bytes
from octavo_runtime.planning.quantized_weights import cpu_packed_bytes, unpacked_bytes

CUDA_CONTEXT_BYTES = 2**30
"""What the driver and the CUDA context take of a GPU's memory, as nvidia-smi counts it, before the first tensor."""

CPU_PROCESS_BYTES = 3 * 2**27
"""What the server's two processes take at least beside the model, on a CPU."""

MOST_CAPTURED = 1024
"""Sequences of the largest decode step that is captured as a CUDA graph."""

MOST_CAPTURED_TOKENS = 2048
"""Tokens of the largest step with prompts that is captured, in pieces. Above, the GPU computes for longer than the host
needs to launch it kernel by kernel."""

MIN_TOKENS = 16
"""The least that a KV cache must hold."""

_GRAPH_BYTES = 2**27  # of the decode steps' graphs themselves, and the block tables of one group of layers
_PIECES_BYTES = 3 * 2**20  # of the graphs of one piece in all sizes
_WORKSPACE_BYTES = 2**28  # cuBLAS's and the kernels' own buffers
_SAMPLED_ROWS = 256
_TOKEN_BUDGETS = {"cuda": 8192, "cpu": 512}
_ELEMENT_BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}
_CPU_CACHE_LIMIT = 2**30
_GPU_SWAP_LIMIT = 2**32


class DoesNotFit(ValueError):
    """The configuration asks for more than the memory holds; one line with the field, the bound and the value."""


@dataclass(frozen=True)
class MemoryPlan:
    """Where a device's memory goes. All sizes in bytes. active_parameters: those that one token meets.

    device_memory: on a GPU all of it, on a CPU what the server may use. budget: the share of it that the engine uses.
    context_bytes: of the driver and the CUDA context, or on a CPU of the processes themselves.
    kv_cache_bytes: what is left for the KV cache, negative where the rest alone is too much. swap_bytes: host memory
    for the blocks of preempted requests, on a CPU out of the same memory, on a GPU the most that it may take.
    kv_bytes_per_token: in all layers. block_bytes: of a block, which is one of a group of layers; windows: of these
    groups. room: tokens of the longest sequence that the KV cache holds.
    max_model_len: tokens of the longest request; 0 with a problem, which is one line that says why the engine would not
    start."""

    device_memory: int
    budget: int
    parameters: int
    active_parameters: int
    weight_bytes: int
    context_bytes: int
    activation_bytes: int
    graph_bytes: int
    kv_cache_bytes: int
    kv_bytes_per_token: int
    block_size: int
    block_bytes: int
    windows: tuple[int | None, ...]
    num_blocks: int
    room: int
    swap_bytes: int
    num_host_blocks: int
    max_model_len: int
    problem: str | None

    @property
    def reserves(self) -> int:
        """Bytes of all that is neither weights nor KV cache."""
        return self.context_bytes + self.activation_bytes + self.graph_bytes

    @property
    def num_tokens(self) -> int:
        """Tokens that the KV cache holds in all layers; of longer sequences than a window it holds more."""
        return self.num_blocks // max(len(self.windows), 1) * self.block_size

    def sequence_bytes(self, length: int, new_tokens: int = 1) -> int:
        """Bytes of the KV cache that a sequence of `length` tokens holds, while a step computes new_tokens of them."""
        return sequence_blocks(self.windows, self.block_size, length, new_tokens) * self.block_bytes

    def num_sequences(self, length: int) -> int:
        """Sequences of `length` tokens that the KV cache holds at once."""
        return self.num_blocks // max(sequence_blocks(self.windows, self.block_size, length), 1)

    def num_sequences_before_reserves(self, length: int) -> int:
        """The same by the rule of thumb: budget less weights, over the bytes of one sequence."""
        slots = sum(min(length, window or length) for window in self.windows)
        return max(self.budget - self.weight_bytes, 0) * self.block_size // max(slots * self.block_bytes, 1)


def plan_memory(
    spec: ModelSpec, config: EngineConfig, device_memory: int, device: str = "cuda", packed_bytes: int = 0
) -> MemoryPlan:
    """What the engine would settle on with `device_memory` bytes of a "cuda" or "cpu" device, or of each of the devices
    that share the model; of a pipeline's stages, for the one with the least room. packed_bytes: by how many a CPU's
    weights are more than in 16 bits, for those that it keeps packed (see planning.description.FoundModel). Raises
    DoesNotFit where the configuration breaks a bound that is no question of memory."""
    check_model_limit(config, spec.max_position)
    try:
        spec = as_served(spec, config)
    except UnsupportedModel as error:
        raise DoesNotFit(str(error)) from None
    if spec.values_at_load is not None:
        packed_bytes = cpu_packed_bytes(spec)
    if config.num_ranks > 1:
        packed_bytes = 0
        device_memory = device_memory if device == "cuda" else device_memory // config.local_ranks
    stages = shares(spec, config, device)
    plans = [_plan_share(spec, share, config, device_memory, device, packed_bytes) for share in stages]
    return min(plans, key=lambda plan: (plan.problem is None, plan.num_blocks))


def _plan_share(
    whole: ModelSpec, spec: ModelSpec, config: EngineConfig, device_memory: int, device: str, packed_bytes: int
) -> MemoryPlan:
    """What the device settles on that computes `spec` of the whole model."""
    element_bytes = element_size(config)
    tokens = token_budget(config, device)
    on_gpu = device == "cuda"
    weights = weight_bytes(spec, element_bytes, device)
    if not on_gpu and element_bytes == 2:
        weights += packed_bytes
    context = CUDA_CONTEXT_BYTES if on_gpu else CPU_PROCESS_BYTES
    activations = activation_bytes(spec, tokens, config.max_num_seqs, element_size(config)) if on_gpu else 0
    graphs = graph_bytes(spec, config) if on_gpu else 0
    budget = int(device_memory * config.gpu_memory_utilization) if on_gpu else device_memory
    needed = weights + context + activations + graphs
    if spec.encoder is not None:
        cache = 0
    elif config.kv_cache_memory is not None:
        cache = parse_quantity(config.kv_cache_memory)
    else:
        cache = budget - needed if on_gpu else cpu_cache_bytes(budget - needed)
    blocks = num_blocks(spec, config, cache)
    room = cache_room(spec, config.block_size, blocks, tokens)
    problem, longest, swap = None, 0, 0
    if spec.encoder is None:
        problem = cache_problem(config, device_memory - needed, device_memory)
    if problem is None and needed > budget:
        least, used = gigabytes(needed), gigabytes(budget)
        problem = f"memory: must be at least {least} for weights and reserves, got {used} to use"
    if problem is None and spec.encoder is not None:
        longest = encoder_max_model_len(config, spec.max_position, None)
    elif problem is None:
        # Of a GPU's host nothing is known here: what is asked for is there.
        asked = parse_quantity(config.swap_space or "0")
        free = asked + 8 * _GPU_SWAP_LIMIT if on_gpu else device_memory - needed - cache
        try:
            swap = swap_bytes(config, device, cache, free)
            longest = settle_max_model_len(config, spec.max_position, room)
        except DoesNotFit as error:
            problem = str(error)
    return MemoryPlan(
        device_memory=device_memory,
        budget=budget,
        parameters=parameter_count(whole),
        active_parameters=active_parameter_count(whole),
        weight_bytes=weights,
        context_bytes=context,
        activation_bytes=activations,
        graph_bytes=graphs,
        kv_cache_bytes=cache,
        kv_bytes_per_token=kv_bytes_per_token(spec, kv_element_size(config)),
        block_size=config.block_size,
        block_bytes=kv_bytes_per_block(spec, config.block_size, kv_element_size(config)),
        windows=group_windows(spec),
        num_blocks=blocks,
        room=room,
        swap_bytes=swap,
        num_host_blocks=num_blocks(spec, config, swap),
        max_model_len=longest,
        problem=problem,
    )


def shares(spec: ModelSpec, config: EngineConfig, device: str) -> list[ModelSpec]:
    """What one of the devices of each stage computes of a model. Raises DoesNotFit where it cannot be cut so."""
    try:
        share = shard(spec, config.tensor_parallel_size, whole_experts=config.enable_expert_parallel)
        if config.pipeline_parallel_size == 1:
            return [share]
        return [stage_of(share, layers) for layers in layers_of_stages(spec, config, device)]
    except UnsupportedModel as error:
        raise DoesNotFit(str(error)) from None


def layers_of_stages(spec: ModelSpec, config: EngineConfig, device: str) -> list[range]:
    """The layers of each stage of a pipeline on devices of that type, shared by the bytes of their weights; those of
    the embedding go with the first and those of the head with the last. Raises UnsupportedModel."""
    layers = [stage_of(spec, range(layer, layer + 1)) for layer in range(spec.num_layers)]
    sizes = [weight_bytes(layer, element_size(config), device) for layer in layers]
    return cut(sizes, config.pipeline_parallel_size)


def element_size(config: EngineConfig) -> int:
    """Bytes of one weight or activation."""
    return _ELEMENT_BYTES[config.dtype]


def kv_element_size(config: EngineConfig) -> int:
    """Bytes of one number of the KV cache."""
    return element_size(config) if config.kv_cache_dtype == "auto" else 1


def kv_bytes_per_token(spec: ModelSpec, element_bytes: int) -> int:
    """Bytes of one token over all layers: a key and a value per layer, KV head and dimension, or a latent per layer; 0
    of an encoder, which keeps none."""
    if spec.encoder is not None:
        return 0
    return spec.num_layers * math.prod(spec.cached_token) * element_bytes


def kv_bytes_per_block(spec: ModelSpec, block_size: int, element_bytes: int) -> int:
    """Bytes of one block, which holds some tokens in one group of layers."""
    return block_size * layers_of_a_block(spec) * math.prod(spec.cached_token) * element_bytes


def num_blocks(spec: ModelSpec, config: EngineConfig, cache_bytes: int) -> int:
    """Whole blocks in `cache_bytes`; 0 where that is negative, or where nothing is kept."""
    if spec.encoder is not None:
        return 0
    return max(cache_bytes, 0) // kv_bytes_per_block(spec, config.block_size, kv_element_size(config))


def sequence_blocks(windows: Sequence[int | None], block_size: int, length: int, new_tokens: int = 1) -> int:
    """The most blocks that a sequence of `length` tokens holds in groups of layers with those windows, while a step
    computes `new_tokens` of them."""
    return sum(most_entries(window, block_size, length, new_tokens) for window in windows)


def cache_room(spec: ModelSpec, block_size: int, blocks: int, step_tokens: int) -> int:
    """Tokens of the longest sequence that a KV cache of so many blocks holds, in whole blocks, where a step computes up
    to step_tokens of it. Of a model whose layers all have a window it is at most the model's own limit, or as many as
    there are blocks."""
    windows, size = group_windows(spec), block_size
    lengths = range(size, max(blocks, -(-spec.max_position // size)) * size + 1, size)
    return size * bisect_right(lengths, blocks, key=lambda one: sequence_blocks(windows, size, one, step_tokens))


def activation_bytes(spec: ModelSpec, tokens: int, sequences: int, element_bytes: int) -> int:
    """Upper bound of the temporary tensors of a step of `tokens`, of which `sequences` draw a token: the MLP's inner
    state, the sampled rows' float32 scores and a weight that is unpacked for many rows live at once."""
    rows = min(tokens, max(sequences, _SAMPLED_ROWS))
    scores = 0 if spec.encoder is not None else 4 * 4 * spec.vocab_size * rows
    latents = 4 * (sequences * _absorbed_size(spec) + _expanded_elements(spec, tokens))
    return tokens * inner_size(spec) * 4 + latents + scores + unpacked_bytes(spec, element_bytes) + _WORKSPACE_BYTES


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


def cpu_cache_bytes(free: int) -> int:
    """Default size of the KV cache on a CPU, with `free` bytes left beside the weights: 1 GiB, or a quarter of them
    where that is less."""
    return min(_CPU_CACHE_LIMIT, max(free, 0) // 4)


def cache_problem(config: EngineConfig, left: int, memory: int) -> str | None:
    """Why the KV cache that is asked for does not fit, where weights and reserves leave `left` bytes of `memory`."""
    if config.kv_cache_memory is None or parse_quantity(config.kv_cache_memory) <= left:
        return None
    most = f"{gigabytes(max(left, 0))}, which weights and reserves leave of {gigabytes(memory)}"
    return f"kv_cache_memory: must be at most {most}, got {config.kv_cache_memory}"


def asked_cache_bytes(config: EngineConfig, left: int, memory: int) -> int | None:
    """Size of the KV cache that is asked for, if one is; arguments as in cache_problem. Raises DoesNotFit."""
    if (problem := cache_problem(config, left, memory)) is not None:
        raise DoesNotFit(problem)
    return None if config.kv_cache_memory is None else parse_quantity(config.kv_cache_memory)


def swap_bytes(config: EngineConfig, device: str, cache_bytes: int, free: int) -> int:
    """Host memory for swapped blocks, with `free` bytes of it left and a KV cache of `cache_bytes`. Raises DoesNotFit
    where more is asked for than is free."""
    if config.preemption_mode == "recompute":
        return 0
    if config.swap_space is not None:
        asked = parse_quantity(config.swap_space)
        if asked > free:
            left = gigabytes(max(free, 0))
            raise DoesNotFit(f"swap_space: must be at most {left}, the host memory left, got {config.swap_space}")
        return asked
    return min(max(free, 0) // 8, _GPU_SWAP_LIMIT if device == "cuda" else cache_bytes // 2)


def token_budget(config: EngineConfig, device: str) -> int:
    """Most tokens of one step on a device of that type, and at least one for each row."""
    budget = config.max_num_batched_tokens or max(_TOKEN_BUDGETS[device], config.max_num_seqs)
    if budget < config.max_num_seqs:
        raise DoesNotFit(f"max_num_batched_tokens: must be at least max_num_seqs ({config.max_num_seqs}), got {budget}")
    return budget


def check_model_limit(config: EngineConfig, max_position: int) -> None:
    """Raises DoesNotFit where longer requests are asked for than the model was made for."""
    asked = config.max_model_len
    if asked is not None and asked > max_position:
        raise DoesNotFit(f"max_model_len: must be at most {max_position}, the model's own limit, got {asked}")


def settle_max_model_len(config: EngineConfig, max_position: int, room: int, usual: int | None = None) -> int:
    """The longest request that the engine takes: what was asked for, checked against the model's limit and the room of
    the KV cache (see cache_room), or as much as fits. usual: the most where nothing is asked for, if there is such a
    bound."""
    if room < MIN_TOKENS:
        raise DoesNotFit(
            f"kv_cache_memory: must hold at least {MIN_TOKENS} tokens, got room for {max(room, 0)}; "
            "give the KV cache more, or use a smaller model"
        )
    check_model_limit(config, max_position)
    asked = config.max_model_len
    if asked is None:
        return min(max_position, usual or max_position, room)
    if asked > room:
        raise DoesNotFit(
            f"max_model_len: must be at most {room}, the tokens that the KV cache holds, got {asked}; "
            "raise kv_cache_memory"
        )
    return asked


def encoder_max_model_len(config: EngineConfig, max_position: int, usual: int | None) -> int:
    """The same of a model without a KV cache."""
    check_model_limit(config, max_position)
    return config.max_model_len or min(max_position, usual or max_position)


def gigabytes(size: float) -> str:
    """In words, to two digits."""
    return f"{size / 1e9:.2f} GB"
