"""What is told of kopf's watches that fail."""

import asyncio
import gc

import pytest

from octavo_operator.control.handlers import hear_of_watches_once


async def _refuse() -> None:
    raise PermissionError("jobs.batch is forbidden")


async def _fails_unasked(name: str) -> None:
    asyncio.get_running_loop().set_exception_handler(hear_of_watches_once)
    task = asyncio.create_task(_refuse(), name=name)
    await asyncio.wait([task])
    del task
    gc.collect()


@pytest.mark.parametrize(("name", "told"), [("watcher for jobs.v1.batch@None", []), ("scrape", ["asyncio"])])
def test_watches_that_fail_together_are_told_once(caplog: pytest.LogCaptureFixture, name: str, told: list[str]) -> None:
    asyncio.run(_fails_unasked(name))
    assert [record.name for record in caplog.records] == told
