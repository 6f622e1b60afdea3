"""How many tokens a pod's KV cache holds, asked of the pod itself."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from octavo_operator.scraping.measurements import Measurements, read

KEY = ("default", "chat")
SAID = "# TYPE octavo_cache_config_info gauge\nother 1\n"
SAID += 'octavo_cache_config_info{model_name="m",block_size="16",num_gpu_blocks="100"} 1.0\n'


def pod(name: str, port: int, *, ready: bool = True, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    metadata = {"name": name, "uid": name, "creationTimestamp": created}
    metadata["annotations"] = {"prometheus.io/port": str(port)}  # type: ignore[assignment]
    return {"metadata": metadata, "status": {"podIP": "127.0.0.1", "conditions": [condition]}}


def test_the_metric_is_read() -> None:
    assert read(SAID) == 1600
    assert read("other 1\n") is None
    assert read("") is None
    assert read('octavo_cache_config_info{block_size="16",num_gpu_blocks="0"} 1\n') is None


@pytest.mark.parametrize("text", ['octavo_cache_config_info{block_size="x",num_gpu_blocks="1"} 1\n'])
def test_other_words_are_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="x"):
        read(text)


async def test_the_newest_ready_pod_is_asked_once() -> None:
    asked: list[str] = []
    answers = {"status": 503, "text": ""}

    async def metrics(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(**answers)

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: int = runner.addresses[0][1]
    time = 0.0
    told = asyncio.Event()
    measurements = Measurements(clock=lambda: time)
    keeping = asyncio.create_task(measurements.keep(lambda *_: told.set()))
    try:
        pods = [pod("old", 1), pod("new", port, created="2026-01-02T00:00:00Z"), pod("unready", 1, ready=False)]
        assert measurements.tokens(KEY, pods) is None
        async with asyncio.timeout(30):
            while not asked:
                await asyncio.sleep(0.01)
        assert measurements.tokens(KEY, pods) is None
        answers |= {"status": 200, "text": SAID}
        time = 299.0
        assert measurements.tokens(KEY, pods) is None
        await asyncio.sleep(0.05)
        assert len(asked) == 1, "it said nothing a moment ago"
        time = 301.0
        assert measurements.tokens(KEY, pods) is None
        async with asyncio.timeout(30):
            await told.wait()
        time = 10_000.0
        assert measurements.tokens(KEY, pods) == 1600
        await asyncio.sleep(0.05)
        assert len(asked) == 2
        assert measurements.tokens(KEY, [pod("unready", port, ready=False)]) is None
        measurements.forget(KEY)
        assert measurements.tokens(KEY, pods) is None
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await runner.cleanup()
