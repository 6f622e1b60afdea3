"""How much memory a container has left."""

from pathlib import Path

import pytest

from octavo_runtime.worker.memory import free_host_memory

LIMIT, USED, INACTIVE, ACTIVE = 1536 << 20, 1400 << 20, 700 << 20, 100 << 20


def write(folder: Path, version: int, limit: str) -> None:
    names = {
        1: ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
        2: ("memory.max", "memory.current", "memory.stat", ""),
    }
    limits, usage, stat, prefix = names[version]
    (folder / usage).parent.mkdir(exist_ok=True)
    (folder / limits).write_text(f"{limit}\n")
    (folder / usage).write_text(f"{USED}\n")
    (folder / stat).write_text(f"anon 5\n{prefix}inactive_file {INACTIVE}\n{prefix}active_file {ACTIVE}\nslab 7\n")


@pytest.mark.parametrize("version", [1, 2])
def test_pages_of_files_that_a_container_has_read_are_free(version, tmp_path):
    write(tmp_path, version, str(LIMIT))
    assert free_host_memory(tmp_path) == LIMIT - USED + INACTIVE + ACTIVE


def test_a_container_without_a_limit_has_what_the_machine_has(tmp_path):
    write(tmp_path, 2, "max")
    assert free_host_memory(tmp_path) > LIMIT - USED + INACTIVE + ACTIVE


def test_a_container_beyond_its_limit_has_nothing(tmp_path):
    write(tmp_path, 2, str(USED - INACTIVE - ACTIVE - 1))
    assert free_host_memory(tmp_path) == 0
