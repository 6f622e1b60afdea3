"""The executor of a model that several processes compute together, of this machine and of others: this one is the first
rank."""

import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import has_joined, join, leave, open_store
from octavo_runtime.distributed.mesh import Mesh, mesh_of
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.protocol import last_words
from octavo_runtime.protocol.step import Masks, StepPlan, StepResult
from octavo_runtime.worker.executor import Launched, device_executor, gpu_of
from octavo_runtime.worker.follower import Follower, RankFailed, end_all
from octavo_runtime.worker.further import start_further
from octavo_runtime.worker.line import READY, UP
from octavo_runtime.worker.model_runner import ModelRunner
from octavo_runtime.worker.nodes import address_of_first, ended_with_error, gather_nodes
from octavo_runtime.worker.orders import Join, Launch, Order, Prepare, decode_result, draw, encode

_LOOK_SECONDS = 0.5  # how often it is seen to that all ranks are still there, while a step is waited for
_GRACE_SECONDS = 1.0  # for the main thread to end by itself, once a rank is gone

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


class _Ranks:
    """All ranks but the first."""

    def __init__(self, followers: Sequence[Follower], teller: int | None) -> None:
        """teller: which of them is, or has, the rank that tells what was drawn; None: this process draws itself."""
        self.followers = followers
        self._teller = None if teller is None else followers[teller]
        self._computes = False
        self._is_ended = False
        for follower in followers:
            threading.Thread(target=self._watch, args=[follower], name="watch", daemon=True).start()

    def tell(self, order: Order) -> None:
        """Sends an order to all of them. Raises RankFailed."""
        message = encode(order)
        for follower in self.followers:
            if not follower.tell(message):
                self._find_the_gone()
        self.check()

    def wait_for(self, what: bytes) -> None:
        """Until all have said so. Raises RankFailed."""
        for follower in self.followers:
            follower.wait_for(what)
        self.check()

    def check(self) -> None:
        """Raises RankFailed where one of them is gone; then all are ended. Who fails later does so because of it."""
        if failed := self._failed():
            if all(follower.lost_another for follower in failed):
                self._await_the_gone()  # that other is about to be known
                failed = self._failed()
            first = min(failed, key=lambda follower: (follower.lost_another, follower.failed_at)).failure
            assert first is not None
            self.end(first)
            raise RankFailed(first)

    def with_them(self, compute: Callable[[], Found]) -> Found:
        """The result of what all ranks compute together. Raises RankFailed where one of them is gone."""
        self._computes = True
        try:
            return compute()
        except RuntimeError:  # of a broken connection
            self._computes = False  # to end the others may take longer than the grace
            self._find_the_gone()
            raise
        finally:
            self._computes = False

    def hear_result(self) -> StepResult:
        """What the first step brought that is not heard of yet. Raises RankFailed."""
        assert self._teller is not None
        while True:
            try:
                return decode_result(self._teller.results.get(timeout=_LOOK_SECONDS))
            except queue.Empty:
                self.check()

    def end(self, why: str = "") -> None:
        """Ends all ranks, and waits for those of this node, once. why: one line, where it is no good end."""
        if self._is_ended:
            return
        self._is_ended = True
        end_all(self.followers, why)
        leave(others_are_gone=bool(why))

    def _failed(self) -> list[Follower]:
        return [follower for follower in self.followers if follower.failure is not None]

    def _find_the_gone(self) -> None:
        """Waits until it is known which rank is gone. Raises RankFailed."""
        self._await_the_gone()
        self.check()

    def _await_the_gone(self) -> None:
        for follower in self.followers:
            follower.gone.wait(_GRACE_SECONDS)

    def _watch(self, follower: Follower) -> None:
        """Ends this process where its main thread waits for a rank that is gone in a call that nothing else ends, as
        NCCL's do, and joining."""
        follower.gone.wait()
        time.sleep(_GRACE_SECONDS)
        if self._computes and (failure := follower.failure) is not None:
            _log.error("%s", failure)
            last_words.leave(failure)
            for each in self.followers:
                each.let_go(failure)
            time.sleep(_GRACE_SECONDS)  # to be heard
            if self._computes:  # still: letting go of the others may have ended the call
                os._exit(1)


class RankedExecutor:
    """The Executor of all ranks. What it launches, each of them launches. Of a pipeline, whose first stage this process
    is in, as many steps are under way as there are stages."""

    def __init__(self, first: ModelRunner, ranks: _Ranks, mesh: Mesh) -> None:
        self.ready, self.spec = first.ready, first.spec
        self.max_num_batched_tokens = first.max_num_batched_tokens
        self.block_bytes, self.swap_bytes_per_second = first.block_bytes, first.swap_bytes_per_second
        self.depth = mesh.stages
        self._first = first
        self._ranks = ranks
        self._is_prepared = False

    def launch(self, plan: StepPlan) -> Launched:
        """See `Executor.launch`. Raises RankFailed."""
        self._ranks.tell(Launch(plan))
        launched = self._ranks.with_them(lambda: self._first.launch(plan))

        def result(masks: Masks | None) -> StepResult:
            if plan.masked:
                self._ranks.tell(draw(masks))
            if self.depth > 1:
                return self._ranks.hear_result()
            return self._ranks.with_them(lambda: launched.result(masks))

        return Launched(result, launched.leads)

    def prepare(self) -> bool:
        """See `Executor.prepare`. Raises RankFailed."""
        self._ranks.check()
        if self._is_prepared:
            return False
        self._ranks.tell(Prepare())
        self._is_prepared = not self._ranks.with_them(self._first.prepare)
        return not self._is_prepared


def start_ranks(config: EngineConfig, files: ModelFiles, further: Sequence[Follower] = ()) -> RankedExecutor:
    """Waits for the other nodes where there are any, has the further ranks of this one join, which are started unless
    they are given, and loads this rank's share beside them. They end with what is returned, or with this process.
    Raises RankFailed, and ValueError as make_executor."""
    if has_joined():
        raise ValueError(
            "tensor_parallel_size, pipeline_parallel_size: must be 1 in a process that computes with others already, "
            f"got {config.tensor_parallel_size} and {config.pipeline_parallel_size}"
        )
    further = further or start_further(config, files)
    with ended_with_error(further):
        address, gpu = address_of_first(config), gpu_of(config, 0)
        store = open_store(address)
        nodes = gather_nodes(config, files, address, store.port, further)
        join_there = encode(Join(address, store.port))
        for rank in further:
            rank.tell(join_there)
    mesh = mesh_of(config)
    ranks = _Ranks([*further, *nodes], _follower_of(mesh.teller, config) if mesh.stages > 1 else None)
    try:
        ranks.wait_for(UP)
        team = ranks.with_them(lambda: join(mesh, 0, store, gpu))
        first = ranks.with_them(lambda: device_executor(config, files, team))
        ranks.wait_for(READY)
    except BaseException as error:
        ranks.end(f"rank 0 of {mesh.size}: {error}")
        raise
    executor = RankedExecutor(first, ranks, mesh)
    weakref.finalize(executor, _part, first, ranks)
    return executor


def _part(first: ModelRunner, ranks: _Ranks) -> None:
    try:
        first.close()
    finally:
        ranks.end()


def _follower_of(rank: int, config: EngineConfig) -> int:
    """Which of the followers, the further ranks of this node and then the other nodes, a rank is or is one of."""
    node, local = divmod(rank, config.local_ranks)
    return config.local_ranks - 2 + node if node else local - 1
