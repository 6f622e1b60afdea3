"""How figures are shown: whole, on a narrow terminal too, a row for each form that was measured."""

import json

import pytest

from octavo_runtime.bench.rows import Peer, Row, publish

ROWS = [
    Row(
        "experts, all tokens to the same x 256", {"us": 2678.1234, "gb_s": 431.26, "of_read": 0.09637, "tflop_s": 56.0}
    ),
    Row("decode 1 x 1024", {"us": 16.2, "gb_s": 258.9, "fp8_us": 12.7, "fp8_gb_s": 165.12, "int8_us": 0.0}),
]
PEER = Peer("E", "a GPU", "2026-01-01", {"decode 1 x 1024": {"us": 32.4}})


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines, a space between two words."""
    publish("kernels", "a GPU", "a model", ROWS, PEER, as_json=False, forms=["fp8", "int8"])
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_each_form_has_a_row(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = shown(capsys)
    assert "row us gb_s of_read tflop_s peer ratio" in lines
    assert "experts, all tokens to the same x 256 2,678 431.3 0.096 56.00 - -" in lines
    assert "decode 1 x 1024 16.20 258.9 - - 32.40 us 2.00" in lines
    assert "decode 1 x 1024, fp8 12.70 165.1 - - - -" in lines
    assert "decode 1 x 1024, int8 0.000 - - - - -" in lines


def test_a_narrow_terminal_wraps_names_alone(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    text = " ".join(shown(capsys))
    assert {"2,678", "431.3", "0.096", "56.00", "32.40", "2.00"} <= set(text.split())
    assert "\u2026" not in text


def test_json_has_every_figure_under_its_own_name(capsys):
    publish("kernels", "a GPU", "a model", ROWS, PEER, as_json=True, forms=["fp8", "int8"])
    [first, second] = json.loads(capsys.readouterr().out)["rows"]
    assert first == {"name": ROWS[0].name, **ROWS[0].figures}
    assert second == {"name": ROWS[1].name, **ROWS[1].figures, "judged": "us", "peer": 32.4, "ratio": 2.0}


def test_a_figure_without_a_value_is_shown_as_what_it_is(capsys):
    publish("kernels", "a GPU", "a model", [Row("read", {"us": float("nan")})], None, as_json=False)
    assert "read nan" in " ".join(capsys.readouterr().out.split())
