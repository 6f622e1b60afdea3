"""Ctrl-C, which a terminal sends to all processes of a command, at moments when none of them may be ready for it."""

import os
import signal
import subprocess
import sys

from patience import PATIENCE

from octavo_runtime.protocol.interrupts import interrupts_blocked


def start(*words: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "octavo_runtime", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"} | environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whatever this process was started with
    )


def interrupt_at(process: "subprocess.Popen[str]", count: int) -> None:
    """When so many of the processes have imported pydantic, and not yet all that they need."""
    assert process.stdout is not None
    for line in process.stdout:
        count -= line.split()[-1:] == ["pydantic"]
        if count == 0:
            break
    os.killpg(process.pid, signal.SIGINT)


def test_while_all_is_imported_the_command_ends_without_a_word(tmp_path):
    (tmp_path / "pydantic.py").write_text("import time\nprint('in the middle', flush=True)\ntime.sleep(3600)\n")
    process = start("models", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    assert process.stdout is not None
    while "in the middle" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in said


def test_while_the_engine_starts_the_server_alone_hears_of_it():
    process = start("serve", "builtin://smollm2", "--port", "0")
    interrupt_at(process, 2)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in said


def test_while_api_processes_start_they_end_in_good_order():
    process = start("serve", "builtin://smollm2", "--port", "0", "--api-workers", "2")
    interrupt_at(process, 2)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in said


def test_a_process_that_is_started_without_interrupts_has_none_and_this_one_has():
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    with interrupts_blocked():
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
