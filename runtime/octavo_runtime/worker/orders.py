"""What the first rank tells the others: each message is sent to all of them, and carried out in order. And what it is
told: what a step brought, where another stage draws the tokens."""

import msgspec
import numpy as np

from octavo_runtime.protocol.step import Masks, StepPlan, StepResult


class Join(msgspec.Struct, tag="join", array_like=True, frozen=True):
    """Meet the other ranks at the store there, and load. The first order of all."""

    host: str
    port: int


class Launch(msgspec.Struct, tag="launch", array_like=True, frozen=True):
    """Start a step, and unless it leads or is masked, end it."""

    plan: StepPlan


class Draw(msgspec.Struct, tag="draw", array_like=True, frozen=True):
    """End the first masked step that has not ended, in the stage that draws. masks: bits [rows, words], see
    protocol.step.Masks; none where nothing is drawn."""

    words: int
    bits: bytes


class Prepare(msgspec.Struct, tag="prepare", array_like=True, frozen=True):
    """Do a part of what steps would else wait for."""


Order = Join | Launch | Draw | Prepare

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Order)
_RESULTS = msgspec.msgpack.Decoder(StepResult)


def encode(order: Order) -> bytes:
    return _ENCODER.encode(order)


def decode(message: bytes) -> Order:
    order: Order = _DECODER.decode(message)
    return order


def encode_result(result: StepResult) -> bytes:
    return _ENCODER.encode(result)


def decode_result(message: bytes) -> StepResult:
    result: StepResult = _RESULTS.decode(message)
    return result


def draw(masks: Masks | None) -> Draw:
    return Draw(0, b"") if masks is None else Draw(masks.shape[1], masks.tobytes())


def masks_of(order: Draw) -> Masks | None:
    # A copy, since torch warns of arrays that may not be written to.
    return np.frombuffer(order.bits, np.int32).reshape(-1, order.words).copy() if order.words else None
