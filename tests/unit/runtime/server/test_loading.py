"""What becomes of a server whose model cannot be loaded."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.server import serve
from octavo_runtime.server.observe.metrics import ServerMetrics


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("no such model"), 2), (RuntimeError("what nobody foresaw"), 1)], ids=str
)
async def test_it_ends_with_one_line(error: Exception, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def locate(_model: str) -> None:
        raise error

    monkeypatch.setattr(serve, "locate", locate)
    state = cast(Any, SimpleNamespace(metrics=ServerMetrics("m", cast(Any, None))))
    reason, ended = await serve._run_model(state, EngineConfig(model="m"), ServerConfig(), None)
    assert ended == code
    assert str(error) in reason
    assert "\n" not in reason
