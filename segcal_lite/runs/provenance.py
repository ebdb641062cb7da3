"""What made a result: the commit of this code, its versions, the machine."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

NO_CODE = (":(exclude)results", ":(exclude)*.md")


def checkout():
    """The checkout that this code lies in, or ``None`` where the package is installed without."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").exists() else None


def provenance(device="cpu"):
    """Return when, from which commit, with what and on what a result was made, a dict of texts."""
    import torch

    on_gpu = str(device).startswith("cuda")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else str(device),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
    }


def computed_on(made):
    """Return what computed, of a `provenance`: the processor, or the device beside it."""
    return made["processor"] if made["device"] == "cpu" else made["device"]


def _commit():
    """Commit of this code: git is asked about the checkout alone, not about a folder around it.

    What this code writes, results and the tables in pages, does not make it another: not dirty.
    """
    root = checkout()
    if root is None or not (root / ".git").exists():
        return "no git checkout"
    git = ["git", "--git-dir", root / ".git", "--work-tree", root]
    describe = [*git, "describe", "--always", "--abbrev=12"]
    changed = [*git, "diff", "--name-only", "HEAD", "--", ".", *NO_CODE]
    alone = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        commit, names = (
            subprocess.run(
                command, capture_output=True, text=True, check=True, env=alone, cwd=root
            ).stdout.strip()
            for command in (describe, changed)
        )
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
    return f"{commit}-dirty" if names else commit


def _processor():
    """Name of the processor; Linux hides it in /proc/cpuinfo."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
