"""The floors that docs/architecture.md draws are those that import-linter holds, and every room is on one."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "octavo_operator": "operator",
    "octavo_runtime": "runtime",
    "octavo_kernels": "kernels",
}


def contract() -> list[set[str]]:
    """The floors from top to ground, each a set of rooms."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [one["layers"] for one in settings["contracts"] if one["type"] == "layers"]
    return [{room(name) for name in floor.split(" | ")} for floor in layers]


def room(module: str) -> str:
    package, *rest = module.split(".")
    return "/".join([FOLDERS[package], *rest])


def test_the_drawing_is_the_contract():
    page = (ROOT / "docs" / "architecture.md").read_text()
    [drawing] = re.findall(r"```floors\n(.*?)```", page, re.S)
    assert [set(line.split()) for line in drawing.splitlines()] == contract()


@pytest.mark.parametrize("package", ["octavo_operator", "octavo_runtime"])
def test_every_room_is_on_a_floor(package):
    folder = ROOT / FOLDERS[package] / package
    rooms = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    drawn = {one.rpartition("/")[2] for floor in contract() for one in floor if one.startswith(f"{FOLDERS[package]}/")}
    assert rooms - {"__init__", "__main__"} == drawn
