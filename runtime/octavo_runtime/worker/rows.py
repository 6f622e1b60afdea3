"""The executor's state of each row: where the sequence's keys and values lie, and the prompt tokens that it must
score."""

import numpy as np
import numpy.typing as npt

from octavo_runtime.protocol.step import NewRow, StepPlan


class Rows:
    """Persistent state of `max_rows` sequences, kept where it is from step to step.

    block_tables: [groups, rows, blocks] int32; entries past a sequence's last block are stale, and so are those behind
    the window of a group of layers."""

    def __init__(self, groups: int, max_rows: int, max_blocks: int) -> None:
        self.block_tables = np.zeros((groups, max_rows, max_blocks), dtype=np.int32)
        self._prompts: dict[int, NewRow] = {}

    def update(self, plan: StepPlan) -> None:
        """Takes in the rows and block tables that a plan brings."""
        for new in plan.new_rows:
            self._prompts.pop(new.row, None)
            if new.params.prompt_logprobs is not None:
                self._prompts[new.row] = new
        for table in plan.tables:
            self.block_tables[table.group, table.row, table.first : table.first + len(table.blocks)] = table.blocks

    def side_by_side(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        """The order in which rows whose tables begin with the same blocks follow each other, for a GPU's attention,
        which then reads those once for several; None where no two begin alike. By the first group, which has no
        window where any has none."""
        tables = self.block_tables[0]
        if len(np.unique(tables[rows, 0])) == len(rows):
            return None
        depths = [0, *(1 << bit for bit in range((tables.shape[1] - 1).bit_length()))]
        order: npt.NDArray[np.int64] = np.lexsort(tables[rows[:, None], depths[::-1]].T)
        return order

    @property
    def scores_prompts(self) -> bool:
        """Whether any row's prompt tokens are to be scored."""
        return bool(self._prompts)

    def scored(self, row: int, start: int, count: int) -> tuple[list[int], int] | None:
        """Prompt tokens that follow positions start .. start + count - 1 of a row, and how many top log-probabilities
        each needs; None where the row wants none there."""
        new = self._prompts.get(row)
        if new is None or new.params.prompt_logprobs is None:
            return None
        tokens = new.token_ids[start + 1 : min(start + count + 1, new.prompt_len)]
        return (tokens, new.params.prompt_logprobs) if tokens else None
