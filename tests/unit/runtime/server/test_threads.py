"""The number of threads follows the CPUs of the process and the container's limit."""

import os

import pytest

from octavo_runtime.worker.threads import available_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_without_a_limit_every_cpu_computes(tmp_path):
    assert available_cpus(tmp_path) == 8


@pytest.mark.parametrize(
    ("words", "expected"),
    [("max 100000", 8), ("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)],
)
def test_a_limit_of_cgroup_v2(tmp_path, words, expected):
    (tmp_path / "cpu.max").write_text(words + "\n")
    assert available_cpus(tmp_path) == expected


@pytest.mark.parametrize(("limit", "expected"), [("-1", 8), ("300000", 3)])
def test_a_limit_of_cgroup_v1(tmp_path, limit, expected):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(limit + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path) == expected


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("2,4", 2), ("16", 8), ("0", 1), ("", 8), ("many", 8)])
def test_openmp_may_have_been_told_fewer(tmp_path, monkeypatch, asked, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert available_cpus(tmp_path) == expected
