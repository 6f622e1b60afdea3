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


def contracts() -> list[list[set[str]]]:
    """Of each contract the floors from top to ground, each a set of rooms."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [one["layers"] for one in settings["contracts"] if one["type"] == "layers"]
    return [[{room(name) for name in floor.split(" | ")} for floor in floors] for floors in layers]


def room(module: str) -> str:
    package, *rest = module.split(".")
    return "/".join([FOLDERS[package], *rest])


def test_the_drawings_are_the_contracts():
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawings = re.findall(r"```floors\n(.*?)```", page, re.S)
    assert [[set(line.split()) for line in drawing.splitlines()] for drawing in drawings] == contracts()


@pytest.mark.parametrize("package", ["octavo_operator", "octavo_runtime", "octavo_runtime.server"])
def test_every_room_is_on_a_floor(package):
    house, *inner = package.split(".")
    folder = ROOT.joinpath(FOLDERS[house], house, *inner)
    rooms = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    drawn = {one for floors in contracts() for floor in floors for one in floor}
    assert {room(f"{package}.{one}") for one in rooms - {"__init__", "__main__"}} == {
        one for one in drawn if one.rpartition("/")[0] == room(package)
    }
