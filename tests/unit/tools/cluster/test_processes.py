"""Background processes are found again and ended by identity, never by number alone."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
from steps import StepFailed

SLEEP = ["sleep", "60"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "RECORDS", tmp_path / "processes")
    monkeypatch.setattr(processes, "LOGS", tmp_path / "log")
    monkeypatch.setattr(processes, "STATE", tmp_path)
    monkeypatch.setattr(processes, "MARK", f"OCTAVO_CLUSTER_PROCESS={tmp_path}")


def test_a_running_process_is_not_started_twice() -> None:
    first = processes.ensure("sleeper", SLEEP)
    assert processes.ensure("sleeper", SLEEP) == first
    processes.stop(["sleeper"])
    assert processes.running("sleeper") is None
    assert processes.identity(first.pid) is None


def test_other_arguments_or_files_restart_it(tmp_path: Path) -> None:
    started = [
        processes.ensure("sleeper", SLEEP),
        processes.ensure("sleeper", ["sleep", "61"]),
        processes.ensure("sleeper", ["sleep", "61"], files={tmp_path / "config" / "a.toml": "one"}),
        processes.ensure("sleeper", ["sleep", "61"], files={tmp_path / "config" / "a.toml": "two"}),
    ]
    alive = [process for process in started if processes.identity(process.pid) == process]
    processes.stop(["sleeper"])
    assert alive == started[-1:]
    assert (tmp_path / "config" / "a.toml").read_text() == "two"


def test_a_reused_process_id_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP)
    record = {"pid": stranger.pid, "started": 1, "boot": "another"}
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "sleeper.json").write_text(json.dumps({"identity": record, "argv": SLEEP, "files": {}}))
    assert processes.running("sleeper") is None
    processes.stop(["sleeper"])
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_the_start_time_is_part_of_the_identity() -> None:
    me = processes.identity(os.getpid())
    assert me is not None
    assert dataclasses.replace(me, started=me.started + 1) != processes.identity(os.getpid())


def test_a_process_that_ignores_the_request_to_end_is_killed() -> None:
    stubborn = processes.ensure("stubborn", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
    while not processes.log("stubborn").read_text():
        time.sleep(0.01)
    processes.stop(["stubborn"], seconds=0.2)
    assert processes.identity(stubborn.pid) is None


def test_a_process_without_a_record_is_found_by_its_mark(tmp_path: Path) -> None:
    started = processes.ensure("sleeper", SLEEP)
    (tmp_path / "processes" / "sleeper.json").unlink()
    assert processes.marked() == [started]
    processes.end(processes.marked())
    assert processes.marked() == []


def test_a_failure_shows_the_last_log_lines() -> None:
    with pytest.raises(StepFailed, match="no such disk") as failure:
        _start_and_fail("echo no such disk; exit 1")
    assert str(processes.log("broken")) in failure.value.advice


def _start_and_fail(script: str) -> None:
    """A program may end before `ensure` returns, or after."""
    processes.ensure("broken", ["sh", "-c", script])
    while processes.running("broken"):
        time.sleep(0.01)
    raise processes.ended("broken")
