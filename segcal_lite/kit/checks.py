"""Tests and benchmarks, as commands."""

import os
import sys
from datetime import datetime

from ..runs.folders import project_root
from ..runs.processes import THREAD_COUNTS
from . import pages
from .environment import run_to_its_end


def test():
    """Lint, check the layers, run all tests and doctests, run every notebook in a fresh folder."""
    out = f"runs/test-{datetime.now():%Y%m%d-%H%M%S}"
    lint_imports = "from importlinter.cli import lint_imports_command as lint; lint()"
    quick = "not real and not slow and not nnunet"
    tests = ("pytest", "tests", "segcal_lite", "data_scripts", "--doctest-modules", "-m", quick)
    nbval = ("pytest", "--nbval-lax", f"--nbval-kernel-name={pages.kernel_name()}", "notebooks")
    steps = (
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-c", lint_imports),
        ("-m", *tests),
        ("-m", *nbval),
    )
    for step in steps:
        print("$ python " + " ".join(step), flush=True)
        code = run_python(*step, SEGCAL_OUT=out)
        if code:
            return code
    return 0


def test_real():
    """Run the tests that need the real volumes in ``SEGCAL_REAL_DATA``."""
    if not os.environ.get("SEGCAL_REAL_DATA"):
        print("SEGCAL_REAL_DATA is not set: nothing to test against")
        return 1
    return run_python("-m", "pytest", "tests", "-m", "real", "-rs")


def test_slow():
    """Run the tests that need a browser, or long."""
    return run_python("-m", "pytest", "tests", "-m", "slow", "-rs")


def test_nnunet():
    """Train a real nnU-Net on ten volumes; judge its predictions and its network."""
    return run_python("-m", "pytest", "tests/nnunet", "-m", "nnunet", "-rs")


def bench():
    """Time the scores beside other libraries on one thread; write ``results/benchmarks.csv``."""
    script, table = "tests/benchmarks/bench_scores.py", "results/benchmarks.csv"
    one = dict.fromkeys(THREAD_COUNTS, "1")
    return run_python(script, table, **one, PYTHONPATH=str(project_root()))


def run_python(*arguments, **environment):
    """Run this Python from the project root and return its exit status."""
    command = [sys.executable, *arguments]
    return run_to_its_end(command, cwd=project_root(), env=os.environ | environment)
