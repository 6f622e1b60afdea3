"""The loops that a function calls, noted once and called again without Python between them: the CPU's counterpart of a
CUDA graph.

A function is recorded with tensors that have no memory (torch's device "meta"): torch keeps their shapes, strides and
storages, and each call of a loop is noted instead of made. Then the storages get places in one piece of memory, where
those whose lives do not overlap share theirs, so that a step's temporaries stay few and in the CPU's cache."""

import ctypes
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from octavo_kernels.native import Argument, Pack, library, taken_by, word, workers

Compute = Callable[..., Tensor]

_CACHE_LINE = 64  # bytes; what threads write apart must not share one
_TEMPORARY, _RESULT, _INPUTS = range(3)  # pieces of memory: of all temporaries, of the result, of the first input
_EMPTY = (
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.new_empty.default,
)


class Recordings:
    """Of one function, a recording for each shape and type of its inputs."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Recording] = {}

    def run(self, compute: Compute, *inputs: Tensor) -> Tensor:
        """The function's result, which is new at each call. compute: the function, which is recorded when it first
        meets such inputs (see `record`), and else not looked at. One call at a time."""
        key = workers(), *((each.dtype, each.shape, each.stride()) for each in inputs)
        if key not in self._known:
            self._known[key] = record(compute, inputs)
        return self._known[key].replay(inputs)


def record(compute: Compute, inputs: Sequence[Tensor]) -> "Recording":
    """The calls of loops that a function from tensors to a tensor makes for inputs of these shapes, strides and types.

    Between its inputs and its result it may call loops, make views and ask for empty tensors. All else that torch would
    compute is refused by name, for a replay would leave it out. Tensors that are no inputs must stay as they are, such
    as weights."""
    twins = [torch.empty_strided(each.shape, each.stride(), dtype=each.dtype, device="meta") for each in inputs]
    calls = _Calls(twins)
    token = taken_by.set(calls.take)
    try:
        with calls:
            result = compute(*twins)
    finally:
        taken_by.reset(token)
    return Recording(calls, result)


@dataclass
class Buffer:
    """A storage without memory."""

    size: int  # bytes
    first: int  # the number of the first call that names it
    last: int
    memory: int = _TEMPORARY  # which piece of memory it is given when a recording is replayed
    start: int = 0  # where in it, in bytes


class _Place(NamedTuple):
    """An argument that is known only when a recording is replayed."""

    word: int  # of all calls' words
    buffer: Buffer
    offset: int  # bytes


class _Calls(TorchDispatchMode):
    """Notes calls of loops, and refuses what else computes."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.functions: list[tuple[int, int]] = []  # their addresses, and where their words begin
        self.words = array("q")
        self.places: list[_Place] = []
        self.buffers = {_storage(each): Buffer(0, 0, 0, _INPUTS + index) for index, each in enumerate(inputs)}
        self.held = list(inputs)  # all tensors that were named: their addresses and storages must stay theirs

    def take(self, function: int, arguments: tuple[Argument, ...], pack: Pack) -> None:
        """Notes one call."""
        call, begin = len(self.functions), len(self.words)
        for at, argument in enumerate(arguments, start=begin):
            if not isinstance(argument, Tensor):
                continue
            self.held.append(argument)
            if argument.is_meta:
                new = Buffer(argument.untyped_storage().nbytes(), call, call)
                buffer = self.buffers.setdefault(_storage(argument), new)
                buffer.last = call
                self.places.append(_Place(at, buffer, int(argument.storage_offset()) * argument.itemsize))
        self.functions.append((function, begin))
        self.words.frombytes(pack(*map(word, arguments)))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else torch imports its compiler, which takes seconds, to say that this is not to be compiled."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """An operation of torch while a function is recorded."""
        if not func._schema.is_mutable:
            result = func(*args, **(kwargs or {}))
            if result.is_meta if func in _EMPTY else _are_views(result, *args):
                return result
        raise NotImplementedError(f"{func} cannot be recorded: a recording holds loops, views and empty tensors alone")


class Recording:
    """The calls of a function's loops, to be made again with other memory."""

    def __init__(self, calls: _Calls, result: Tensor) -> None:
        written = calls.buffers.get(_storage(result))
        if written is None or written.memory != _TEMPORARY:
            raise ValueError("what is recorded must return what one of its loops has written")
        written.memory = _RESULT
        self.size = lay_out([each for each in calls.buffers.values() if each.memory == _TEMPORARY])
        self._result, self._result_size, self._held = result, written.size, calls.held
        # words.hpp's Call and Place.
        self._words = torch.tensor(calls.words)
        begin, size = self._words.data_ptr(), self._words.itemsize
        self._calls = torch.tensor([(function, begin + size * first) for function, first in calls.functions])
        self._places = torch.tensor(
            [
                (begin + size * place.word, place.buffer.memory, place.buffer.start + place.offset)
                for place in calls.places
            ]
        )

    def replay(self, inputs: Sequence[Tensor]) -> Tensor:
        """The function's result for inputs such as it was recorded with."""
        like = self._result
        temporary = torch.empty(self.size, dtype=torch.uint8)
        result = torch.empty(self._result_size // like.itemsize, dtype=like.dtype)
        memories = array("q", [each.data_ptr() for each in (temporary, result, *inputs)])
        _replay(
            self._calls.data_ptr(), len(self._calls), self._places.data_ptr(), len(self._places), memories.tobytes()
        )
        return result.as_strided(like.shape, like.stride(), like.storage_offset())


def lay_out(buffers: Sequence[Buffer]) -> int:
    """Gives each buffer its start: the first gap between those in use that has room. They come in the order of their
    first use. Returns the size of all, in bytes."""
    size = 0
    living: list[Buffer] = []
    for buffer in buffers:
        living = [each for each in living if each.last >= buffer.first]
        for other in living:
            if other.start - buffer.start >= buffer.size:
                break
            buffer.start = _aligned(other.start + other.size)
        living = sorted([*living, buffer], key=attrgetter("start"))
        size = max(size, _aligned(buffer.start + buffer.size))
    return size


def _aligned(offset: int) -> int:
    return -(-offset // _CACHE_LINE) * _CACHE_LINE


def _are_views(result: Any, source: Any = None, *_: Any) -> bool:
    """Whether a result of torch, one or several tensors, lies where the first argument does."""
    results = result if isinstance(result, list | tuple) else [result]
    return isinstance(source, Tensor) and all(
        isinstance(each, Tensor) and _storage(each) == _storage(source) for each in results
    )


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


_replay = library().octavo_replay
_replay.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p]
_replay.restype = None
