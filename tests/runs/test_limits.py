"""Control groups of Linux, imitated in a folder."""

import os
from collections import namedtuple

import pytest

from segcal_lite.runs import limits

GIB = 2**30
VERSION_2 = {
    "": {},
    "slurm": {
        "memory.max": f"{4 * GIB}\n",
        "memory.current": f"{GIB}\n",
        "cpu.max": "max 100000\n",
    },
    "slurm/job": {
        "memory.max": "max\n",
        "memory.current": f"{GIB}\n",
        "memory.stat": f"anon 5\ninactive_file {GIB}\n",
        "cpu.max": "250000 100000\n",
    },
}
VERSION_1 = {
    "memory": {"memory.limit_in_bytes": f"{2**63 - 4096}", "memory.usage_in_bytes": f"{9 * GIB}"},
    "memory/job": {
        "memory.limit_in_bytes": f"{2 * GIB}",
        "memory.usage_in_bytes": f"{GIB}",
        "memory.stat": f"inactive_file 3\ntotal_inactive_file {GIB // 2}\n",
    },
    "cpu/job": {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"},
}


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return a maker of control groups on a machine of 16 cores and 64 GiB."""
    memory = namedtuple("Memory", "available")(64 * GIB)
    monkeypatch.setattr(limits.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(16), raising=False)
    monkeypatch.setattr(limits, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "OWN_GROUPS", tmp_path / "own")

    def make(own, files):
        (tmp_path / "own").write_text(own)
        for folder, content in files.items():
            (tmp_path / "cgroup" / folder).mkdir(parents=True, exist_ok=True)
            for name, text in content.items():
                (tmp_path / "cgroup" / folder / name).write_text(text)

    return make


def test_without_control_groups_the_machine_counts(groups):
    assert (limits.n_cores(), limits.free_memory()) == (16, 64 * GIB)


@pytest.mark.parametrize("own", ["0::/slurm/job\n", "1:name=systemd:/\n0::/slurm/job\n"])
def test_every_group_above_counts(groups, own):
    groups(own, VERSION_2)
    assert limits.free_memory() == 3 * GIB  # of the job's parent
    assert limits.n_cores() == 3  # two and a half: the third waits half of its time


def test_the_cache_of_files_is_free(groups):
    job = VERSION_2["slurm/job"] | {"memory.max": f"{GIB}\n"}
    groups("0::/slurm/job\n", VERSION_2 | {"slurm/job": job})
    assert limits.free_memory() == GIB


def test_a_container_sees_its_group_as_the_root(groups):
    own = {"": {"memory.max": f"{GIB}", "memory.current": "0", "cpu.max": "50000 100000"}}
    groups("0::/docker/0123456789ab\n", own)
    assert (limits.n_cores(), limits.free_memory()) == (1, GIB)


def test_version_1(groups):
    groups("9:memory:/job\n3:cpu,cpuacct:/job\n0::/\n", VERSION_1)
    assert limits.free_memory() == 1.5 * GIB
    assert limits.n_cores() == 16
    groups("3:cpu,cpuacct:/job\n", {"cpu/job": {"cpu.cfs_quota_us": "200000"}})
    assert limits.n_cores() == 2


def test_a_group_that_has_used_more_than_its_limit_leaves_nothing(groups):
    groups("0::/\n", {"": {"memory.max": "5", "memory.current": "9"}})
    assert limits.free_memory() == 0
