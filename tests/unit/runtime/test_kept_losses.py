"""What transformers said of answers is asked again as soon as anything is another."""

from pathlib import Path

import kept_losses as module
import pytest
from kept_losses import kept_losses


def test_losses_are_computed_once_until_what_they_depend_on_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCTAVO_SOAK", raising=False)
    computed: list[list[float]] = []

    def losses(*depends_on: object) -> list[float]:
        def compute() -> list[float]:
            computed.append([float(len(computed))])
            return computed[-1]

        return kept_losses(tmp_path / "model.gguf", [*depends_on], compute)

    assert [losses("model", [[1, 2]]), losses("model", [[1, 2]])] == [[0.0], [0.0]]
    assert losses("model", [[1, 3]]) == [1.0]
    assert losses("other", [[1, 3]]) == [2.0]
    monkeypatch.setattr(module, "version", lambda package: "another")
    assert losses("other", [[1, 3]]) == [3.0]
    assert losses("other", [[1, 3]]) == [3.0]
    monkeypatch.setenv("OCTAVO_SOAK", "1")
    assert losses("other", [[1, 3]]) == [4.0]
    assert [path.name for path in tmp_path.iterdir()] == ["model.losses.json"]
