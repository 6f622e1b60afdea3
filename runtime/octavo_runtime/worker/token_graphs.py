"""Steps with prompts, in pieces that are CUDA graphs: all that is computed token by token between two attentions. The
attentions themselves depend on lengths, and are launched one by one."""

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from octavo_runtime.layers.batch import Batch
from octavo_runtime.layers.embedding import stream_type
from octavo_runtime.layers.residual import Addend, normed
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.planning.reserves import MOST_CAPTURED_TOKENS
from octavo_runtime.worker.graph_arena import Arena, capture

SIZES: tuple[int, ...] = (
    *range(16, 128, 16),
    *range(128, 512, 64),
    *range(512, MOST_CAPTURED_TOKENS + 1, 256),
)
"""The numbers of tokens that steps are computed with."""

# A GPU waits for weights, whatever it computes with them, up to about so many tokens.
_NO_SLOWER = 256


class _Tensors(NamedTuple):
    """What pieces read and write, at the same addresses every time: all sizes use the beginning of the same memory."""

    token_ids: torch.Tensor  # [tokens] int64
    positions: torch.Tensor  # [tokens] int64
    slots: torch.Tensor  # [groups, tokens] int64
    stream: torch.Tensor  # [tokens, hidden], the residual stream
    qkv: torch.Tensor  # [tokens, qkv_size], in the terms of ModelSpec
    attended: torch.Tensor  # [tokens, heads, attended_dim]
    hidden: torch.Tensor  # [tokens, hidden], the result


class _Pass(NamedTuple):
    """The forward pass of one size."""

    tensors: _Tensors
    queries: torch.Tensor  # [tokens, heads, head_dim], in front of `qkv`
    pieces: list[Callable[[], None]]  # one more than there are layers


class TokenGraphs:
    """The forward pass of a decoder over its KV cache, for steps of up to MOST_CAPTURED_TOKENS tokens.

    A step is padded to one of SIZES. Without CUDA the same operations run one by one."""

    def __init__(self, decoder: Decoder, kv_cache: torch.Tensor, arena: Arena | None, max_tokens: int) -> None:
        """kv_cache: see `Decoder.forward`. arena: None without CUDA. max_tokens: of any step."""
        self._decoder = decoder
        self._kv_cache = kv_cache
        self._layer_caches = decoder.stack.caches(kv_cache)
        self._arena = arena
        weight = decoder.embedding.weight
        spec, most = decoder.spec, padded_tokens(min(max_tokens, MOST_CAPTURED_TOKENS))
        # Zeros, because what attention leaves unwritten must be numbers.
        token_ids, positions, *slots = torch.zeros(
            2 + len(group_windows(spec)), most, dtype=torch.int64, device=kv_cache.device
        )
        self._tensors = _Tensors(
            token_ids,
            positions,
            torch.stack(slots),
            stream=weight.new_zeros(most, spec.hidden_size, dtype=stream_type(weight)),
            qkv=weight.new_zeros(most, spec.qkv_size),
            attended=weight.new_zeros(most, spec.num_heads, spec.attended_dim),
            hidden=weight.new_zeros(most, spec.word_size if spec.ends else spec.hidden_size),
        )
        self._missing = _in_order_of_use(most)
        self._captured: dict[int, _Pass] = {}

    def capture_next(self) -> bool:
        """Captures one more size; whether there was one left. Only between steps."""
        if not self._missing:
            return False
        size = self._missing.pop(0)
        self._captured[size] = self._capture(size)
        return True

    def size_for(self, tokens: int) -> int | None:
        """The captured number of tokens that a step of `tokens` is best computed with; None where launching kernel by
        kernel is the better way, since none is near enough."""
        size = min((size for size in self._captured if size >= tokens), default=None)
        return size if size is not None and size <= max(2 * tokens, _NO_SLOWER) else None

    def forward(self, batch: Batch) -> torch.Tensor:
        """Hidden states [tokens, hidden] of a batch that is padded to a captured size, valid until the next step; see
        `Decoder.forward`. The last layer of few tokens is launched kernel by kernel."""
        tensors, queries, (first, *others) = self._captured[len(batch.token_ids)]
        for ours, theirs in zip(tensors[:3], (batch.token_ids, batch.positions, batch.slots), strict=True):
            ours.copy_(theirs)
        first()
        plans = self._decoder.plan_attention(batch, self._kv_cache)
        ending, stack = self._decoder.plan_ending(batch, self._kv_cache), self._decoder.stack
        for layer, layer_cache, piece in zip(stack.layers, self._layer_caches, others, strict=True):
            if ending is not None and layer is stack.layers[-1]:
                return stack.end(queries, tensors.stream, ending, layer_cache)
            layer.attention.attend(queries, batch, plans, layer_cache, tensors.attended)
            piece()
        return tensors.hidden

    def _capture(self, size: int) -> _Pass:
        spec = self._decoder.spec
        tensors = _Tensors(*(tensor[:size] for tensor in self._tensors))._replace(slots=self._tensors.slots[:, :size])
        queries = tensors.qkv.view(size, -1, spec.head_dim)[:, : spec.num_heads]
        pieces: list[Callable[[], None]] = [
            partial(self._compute, index, tensors) for index in range(len(self._decoder.stack.layers) + 1)
        ]
        if self._arena is not None:
            # They run once before: on padding alone.
            tensors.token_ids.zero_()
            tensors.positions.zero_()
            tensors.slots.fill_(-1)
            pieces = [capture(self._arena, piece)[0].replay for piece in pieces]
        return _Pass(tensors, queries, pieces)

    def _compute(self, index: int, tensors: _Tensors) -> None:
        """Piece `index`: behind the attention of the layer before, up to that of layer `index`."""
        layers, stream = self._decoder.stack.layers, tensors.stream
        added: Addend | None = None
        if index == 0:
            stream.copy_(self._decoder.embedding(tensors.token_ids, tensors.positions))
        else:
            added = layers[index - 1].after_attention(tensors.attended, stream)
        if index == len(layers):
            tensors.hidden.copy_(normed(stream, added, self._decoder.stack.norm))
        else:
            layers[index].before_attention(
                stream, added, tensors.positions, tensors.slots.unbind(), self._layer_caches[index], tensors.qkv
            )


def padded_tokens(count: int) -> int:
    """The least of SIZES for a step of `count` tokens."""
    return SIZES[bisect_left(SIZES, count)]


def _in_order_of_use(most: int) -> list[int]:
    """The sizes up to `most`: first a few that serve all steps, though with more padding, then the others."""
    few = [size for size in SIZES if size >= _NO_SLOWER and size.bit_count() == 1 and size < most] + [most]
    return [*few, *(size for size in SIZES if size < most and size not in few)]
