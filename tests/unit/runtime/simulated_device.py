"""A device that computes no model but keeps a KV cache as real ones do: what a slot holds depends on its token and on
what the slots of all earlier positions hold, so a lost copy, a block used twice or a stale table entry shows."""

from collections.abc import Sequence

from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.step import Move, MoveKind, NewRow, Sample, StepPlan, StepResult

BLANK = -1
VOCAB = 50


def chain(tokens: Sequence[int], value: int = 0) -> list[int]:
    """What the slots of a sequence must hold, position by position."""
    values = []
    for token in tokens:
        value = hash((value, token))
        values.append(value)
    return values


def embedding(values: Sequence[int], params: PoolingParams) -> bytes:
    """What a prompt whose slots hold `values` is pooled to."""
    return repr(values if params.pooling != "last" else values[-1]).encode()


class SimulatedDevice:
    """Carries out plans by rows, tables, moves and slices alone, as an executor must."""

    def __init__(self, blocks: int, host_blocks: int, block_size: int) -> None:
        self.memory = [[BLANK] * block_size for _ in range(blocks)]
        self.host = [[BLANK] * block_size for _ in range(host_blocks)]
        self._block_size = block_size
        self._rows: dict[int, NewRow] = {}
        self._tables: dict[int, list[int]] = {}
        self._seen: dict[int, list[int]] = {}

    def run(self, plan: StepPlan) -> StepResult:
        """One step. A drawn token is a function of all tokens before it and of the sample index; an embedding names the
        last slot's content, or those of all tokens that were computed since the row was taken."""
        for move in plan.moves:
            self._move(move)
        for new in plan.new_rows:
            self._rows[new.row], self._tables[new.row], self._seen[new.row] = new, [], []
        for update in plan.tables:
            table = self._tables[update.row]
            assert update.first <= len(table), "a table update leaves a gap"
            table[update.first :] = update.blocks
        samples = []
        written: set[tuple[int, int]] = set()
        for item in plan.slices:
            for position, token in enumerate(item.token_ids, start=item.start):
                before = self._read(item.row, position - 1) if position else 0
                block, slot = self._place(item.row, position)
                assert (block, slot) not in written, "two sequences write one slot in a step"
                written.add((block, slot))
                self.memory[block][slot] = hash((before, token))
        embeddings = {}
        for number, item in enumerate(plan.slices):
            end, new = item.start + len(item.token_ids), self._rows[item.row]
            values = [self._read(item.row, position) for position in range(item.start, end)]
            samples.append([Sample(hash((values[-1], index)) % VOCAB) for index in item.draws])
            self._seen[item.row] += values
            if new.pooling is not None and end == new.prompt_len:
                embeddings[number] = embedding(self._seen[item.row], new.pooling)
        return StepResult(samples, embeddings=embeddings)

    def contents(self, row: int, length: int) -> list[int]:
        """What attention over the first `length` positions of a row would read."""
        return [self._read(row, position) for position in range(length)]

    def _read(self, row: int, position: int) -> int:
        block, slot = self._place(row, position)
        return self.memory[block][slot]

    def _place(self, row: int, position: int) -> tuple[int, int]:
        return self._tables[row][position // self._block_size], position % self._block_size

    def _move(self, move: Move) -> None:
        source = self.host if move.kind is MoveKind.SWAP_IN else self.memory
        target = self.host if move.kind is MoveKind.SWAP_OUT else self.memory
        target[move.target] = list(source[move.source])
