"""What lasts is not looked through for garbage."""

import gc

from octavo_runtime.worker.heap import keep_all


def test_what_is_there_is_left_out_from_then_on():
    lasting, searched = [[]], lambda: {id(one) for one in gc.get_objects()}
    try:
        keep_all()
        later = [[]]
        assert id(lasting) not in searched()
        assert id(later) in searched()
    finally:
        gc.unfreeze()
    assert id(lasting) in searched()
