"""What a container or a batch system leaves of its machine: processor cores and memory.

Linux keeps these limits in control groups, of which a process is in one of each kind and under all
above that; only the machine's own figures are known to `os` and `psutil`.
"""

import math
import os
from pathlib import Path

import psutil

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def n_cores():
    """Cores that this process may use at a time, at least 1."""
    has_affinity = hasattr(os, "sched_getaffinity")
    n_found = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.ceil(min([n_found, *map(_share_of_time, _groups("cpu"))])))


def free_memory():
    """Bytes that this process may still take, on the machine and in its control groups."""
    free = psutil.virtual_memory().available
    return max(0, min([free, *map(_free_in_group, _groups("memory"))]))


def _groups(kind):
    """Yield folders of the control groups that limit this process, its own and those above it.

    A container often sees its own group as the root, under whatever name the machine gives it.
    """
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        if kind in kinds.split(",") or not kinds:  # version 1 names kinds, version 2 none
            root = GROUPS / kind if kinds else GROUPS
            own = root / place.lstrip("/")
            above = [folder for folder in own.parents if folder.is_relative_to(root)]
            yield from (folder for folder in (own, *above) if folder.is_dir())


def _free_in_group(folder):
    """Bytes between a group's limit and what is in use, the cache of files aside."""
    limit = _number(folder, "memory.max", "memory.limit_in_bytes")
    used = _number(folder, "memory.current", "memory.usage_in_bytes")
    if not math.isfinite(limit + used):
        return math.inf
    cache = [
        line.split()[1]
        for line in _text(folder / "memory.stat").splitlines()
        if line.startswith(("inactive_file ", "total_inactive_file "))
    ]
    return limit - used + max(map(int, cache), default=0)


def _share_of_time(folder):
    """Cores' worth of time that a group has, infinite without a limit."""
    both = _text(folder / "cpu.max").split()  # version 2: quota and period in one file
    if not both:
        both = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    limited = all(part.isdecimal() for part in both)  # else "max", -1 or no file
    return int(both[0]) / int(both[1]) if limited else math.inf


def _number(folder, *names):
    """The number in the first of these files that there is, else infinity."""
    texts = (_text(folder / name).strip() for name in names)
    return next((int(text) for text in texts if text.isdecimal()), math.inf)


def _text(path):
    """What a file of the system says, or nothing."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
