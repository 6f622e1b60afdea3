"""How the nodes that compute a model together find each other: node 0 waits until all others have called, and takes
those alone that were told to compute the same. Free of torch."""

import hashlib
import logging
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from octavo_runtime import __version__
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.interface import is_own, listen
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.worker.follower import Follower, RankFailed, end_all
from octavo_runtime.worker.line import FAILED, Silent, line_of

_LOOK_SECONDS = 0.5  # how often it is seen to that those who have called are still there
_SAY_SECONDS = 30.0  # how often it is logged who is waited for
_HELLO_SECONDS = 5.0
_HELLO_BYTES = 65536
_NAME_SECONDS = 120.0
# What may differ between nodes: where each finds its model, what node 0 alone reads, and who they are.
_OWN = {"model", "tokenizer", "chat_template", "cpu_threads", "log_stats", "node_rank", "master_addr"}

_log = logging.getLogger(__name__)


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """What a node says first. settings: the configuration that all nodes must have, as JSON; weights: see
    `fingerprint`."""

    node_rank: int
    version: str
    settings: str
    weights: str


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """What a node is answered. port: of the store where ranks meet, at the address that the node has called."""

    port: int


_HELLOS, WELCOMES = msgspec.msgpack.Decoder(Hello), msgspec.msgpack.Decoder(Welcome)


def hello(config: EngineConfig, files: ModelFiles) -> Hello:
    """What the node of this configuration says."""
    return Hello(config.node_rank, __version__, config.model_dump_json(exclude=_OWN), fingerprint(files))


def fingerprint(files: ModelFiles) -> str:
    """Tells models apart by configuration and the sizes of their weights, without reading these."""
    digest = hashlib.sha256()
    if files.gguf is not None:
        weights = [files.gguf]
    else:
        digest.update((files.folder / "config.json").read_bytes())
        weights = sorted(files.folder.glob("*.safetensors"))
    for path in weights:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]


def address_of_first(config: EngineConfig) -> str:
    """Node 0's address, which is one of this machine. A name may come to mean it a while after the machine has it, as
    those of pods do. Raises RankFailed where it does not."""
    if config.nnodes == 1:
        return "127.0.0.1"
    until = time.monotonic() + _NAME_SECONDS
    while True:
        try:
            found = socket.getaddrinfo(config.master_addr, config.master_port, type=socket.SOCK_STREAM)
            address = str(found[0][4][0])
            if is_own(address):
                return address
            problem = f"{address} is no address of node 0"
        except socket.gaierror as error:
            problem = str(error.strerror)
        if time.monotonic() > until:
            raise RankFailed(f"master_addr: must lead to node 0, got {config.master_addr!r}: {problem}")
        time.sleep(_LOOK_SECONDS)


def gather_nodes(
    config: EngineConfig, files: ModelFiles, address: str, port: int, further: Sequence[Follower] = ()
) -> list[Follower]:
    """All nodes but this one, which is the first, in order, once they have called at `address`; none where there are no
    others. port: of the store; further: this node's own ranks, which wait beside it. Raises RankFailed where one of
    these or of those that had called is gone, or nobody can listen there."""
    if config.nnodes == 1:
        return []
    expected, nodes, saying = hello(config, files), dict[int, Follower](), _Saying()
    try:
        listener = listen(address, config.master_port)
    except OSError as error:
        raise RankFailed(f"cannot listen on {address} port {config.master_port}: {error.strerror}") from None
    with listener, ended_with_error(nodes.values()):
        listener.settimeout(_LOOK_SECONDS)
        while missing := [str(rank) for rank in range(1, config.nnodes) if rank not in nodes]:
            saying.say(f"waiting at {address} port {config.master_port} for node {', '.join(missing)}")
            for follower in (*further, *nodes.values()):
                if follower.failure is not None:
                    raise RankFailed(follower.failure)
            try:
                end, caller = listener.accept()
            except TimeoutError:
                continue
            line = line_of(end)
            try:
                said = _HELLOS.decode(line.hear(_HELLO_SECONDS, _HELLO_BYTES))
            except (Silent, OSError, EOFError, msgspec.DecodeError):
                _log.warning("%s called and is no node of a model", caller[0])
                line.cut()
                continue
            if (problem := _problem(said, expected, config.nnodes, nodes)) is not None:
                _log.warning("node at %s is refused: %s", caller[0], problem)
                line.cut(FAILED + problem.encode())
                continue
            line.say(msgspec.msgpack.encode(Welcome(port)))
            line.beat(lambda: None)
            nodes[said.node_rank] = Follower(f"node {said.node_rank} of {config.nnodes} ({caller[0]})", line)
            _log.info("node %s of %s (%s) joined", said.node_rank, config.nnodes, caller[0])
    return [nodes[rank] for rank in sorted(nodes)]


def _problem(said: Hello, expected: Hello, nnodes: int, nodes: dict[int, Follower]) -> str | None:
    """Why a node cannot compute with this one."""
    if not 0 < said.node_rank < nnodes:
        return f"node_rank: must be from 1 to {nnodes - 1}, got {said.node_rank}"
    if said.node_rank in nodes:
        return f"node_rank: {said.node_rank} has joined already"
    if said.version != expected.version:
        return f"version: must be {expected.version}, as of node 0, got {said.version}"
    theirs, ours = msgspec.json.decode(said.settings), msgspec.json.decode(expected.settings)
    for name, value in ours.items():
        if theirs.get(name) != value:
            return f"{name}: must be {value}, as of node 0, got {theirs.get(name)}"
    if said.weights != expected.weights:
        return f"model: must be the one of node 0, whose files are {expected.weights}, got {said.weights}"
    return None


@contextmanager
def ended_with_error(followers: Iterable[Follower]) -> Iterator[None]:
    """Ends them where an error ends the block, and tells them of it."""
    try:
        yield
    except BaseException as error:
        end_all([*followers], str(error) or type(error).__name__)
        raise


class _Saying:
    """A line in the log every half a minute, and not at once: most waits are short."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 2.0

    def say(self, line: str) -> None:
        if time.monotonic() >= self._next:
            _log.info("%s", line)
            self._next = time.monotonic() + _SAY_SECONDS
