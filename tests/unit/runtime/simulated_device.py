"""A device that computes no model but keeps a KV cache as real ones do: what a slot holds depends on its token and on
what the slots of all earlier positions hold, so a lost copy, a block used twice or a stale table entry shows."""

from collections.abc import Sequence

from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.step import Move, MoveKind, NewRow, Sample, Slice, StepPlan, StepResult

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
    """Carries out plans by rows, tables, moves and slices alone, as an executor must. windows: of the groups of layers,
    which keep the same of each token. vocab: of the tokens that it draws; the fewer, the easier to guess."""

    def __init__(
        self,
        blocks: int,
        host_blocks: int,
        block_size: int,
        windows: Sequence[int | None] = (None,),
        vocab: int = VOCAB,
    ) -> None:
        self.memory = [[BLANK] * block_size for _ in range(blocks)]
        self.host = [[BLANK] * block_size for _ in range(host_blocks)]
        self._block_size = block_size
        self._rows: dict[int, NewRow] = {}
        self._windows = windows
        self._vocab = vocab
        self._tables: dict[tuple[int, int], dict[int, int]] = {}
        self._seen: dict[int, list[int]] = {}

    def run(self, plan: StepPlan) -> StepResult:
        """One step. A drawn token is a function of all tokens before it and of the sample index; an embedding names the
        last slot's content, or those of all tokens that were computed since the row was taken."""
        for move in plan.moves:
            self._move(move)
        for new in plan.new_rows:
            self._rows[new.row], self._seen[new.row] = new, []
            self._tables.update({(new.row, group): {} for group in range(len(self._windows))})
        for update in plan.tables:
            table = self._tables[update.row, update.group]
            assert not table or update.first <= max(table) + 1, "a table update leaves a gap"
            for entry in [entry for entry in table if entry >= update.first]:
                del table[entry]
            table.update(enumerate(update.blocks, start=update.first))
        samples = []
        written: set[tuple[int, int]] = set()
        for item in plan.slices:
            for position, token in enumerate(item.token_ids, start=item.start):
                for group in range(len(self._windows)):
                    before = self._read(item.row, position - 1, group) if position else 0
                    block, slot = self._place(item.row, position, group)
                    assert (block, slot) not in written, "two sequences write one slot in a step"
                    written.add((block, slot))
                    self.memory[block][slot] = hash((before, token))
        embeddings = {}
        for number, item in enumerate(plan.slices):
            end, new = item.start + len(item.token_ids), self._rows[item.row]
            values = [self._read(item.row, position) for position in range(item.start, end)]
            drawn = values[len(values) - 1 - item.guesses :]
            samples.append([Sample(hash((value, index)) % self._vocab) for index in item.draws for value in drawn])
            self._seen[item.row] += values
            if new.pooling is not None and end == new.prompt_len:
                embeddings[number] = embedding(self._seen[item.row], new.pooling)
        return StepResult(samples, embeddings=embeddings)

    def check(self, item: Slice, tokens: Sequence[int]) -> None:
        """That attention of a slice's tokens reads, in each group of layers, what belongs to the sequence of `tokens`,
        up to the slice's last."""
        for group, window in enumerate(self._windows):
            first = 0 if window is None else max(item.start - window + 1, 0)
            found = [self._read(item.row, position, group) for position in range(first, len(tokens))]
            assert found == chain(tokens)[first:], "the KV cache is not its own"

    def contents(self, row: int, length: int) -> list[int]:
        """What the first `length` positions of a row hold in the first group of layers."""
        return [self._read(row, position) for position in range(length)]

    def _read(self, row: int, position: int, group: int = 0) -> int:
        block, slot = self._place(row, position, group)
        return self.memory[block][slot]

    def _place(self, row: int, position: int, group: int) -> tuple[int, int]:
        return self._tables[row, group][position // self._block_size], position % self._block_size

    def _move(self, move: Move) -> None:
        source = self.host if move.kind is MoveKind.SWAP_IN else self.memory
        target = self.host if move.kind is MoveKind.SWAP_OUT else self.memory
        target[move.target] = list(source[move.source])
