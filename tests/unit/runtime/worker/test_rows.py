"""What the executor keeps of each row."""

import numpy as np

from octavo_runtime.worker.rows import Rows


def rows_with(*tables: list[int]) -> Rows:
    rows = Rows(2, len(tables), 13)
    for row, table in enumerate(tables):
        rows.block_tables[0, row, : len(table)] = table
    return rows


def test_rows_that_begin_alike_lie_side_by_side_those_with_most_in_common_closest():
    rows = rows_with([5, 2, 3], [4, 6], [5, 2, 7], [4, 9], [5, 2, 3])
    order = rows.side_by_side(np.array([0, 1, 2, 3, 4]))
    assert order is not None
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert [rows.block_tables[0, row, :3].tolist() for row in order] == [
        [4, 6, 0],
        [4, 9, 0],
        [5, 2, 3],
        [5, 2, 3],
        [5, 2, 7],
    ]


def test_rows_that_have_nothing_in_common_stay_as_they_are():
    assert rows_with([1, 7], [2, 7], [3]).side_by_side(np.array([2, 0, 1])) is None
