"""One sitting of nine minutes on a lent GPU: the tests of CUDA, the candidates, paper A's study.

The one command, in the project's folder:

    python tests/benchmarks/gpu_sitting.py data/ACDC runs/acdc_gpu RESULTS

data/ACDC is there in the common layout (``python -m data_scripts.acdc SOURCE data/ACDC``), and so
are the packages: nothing is downloaded. Cases are prepared beside the first two steps, which do not
need them. RESULTS receives benchmarks_gpu.csv and what gpu_study.py writes, which further arguments
go to, such as ``--precision bfloat16 --compiled --crop-size 128 128 --seed 1``. A step that fails
or takes too long leaves the next ones their turn; the exit status tells of it.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS_OF_TESTS, SECONDS_OF_CANDIDATES = 100, 110  # at most; the study has the rest
SECONDS_TO_END = 10  # by which the study may miss its time


def run(name, command, seconds):
    """Run a step, say how long it took, and return whether it went well."""
    started = time.monotonic()
    try:
        status = subprocess.run(command, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        status = "out of time"
    print(f"{name}: status {status} after {time.monotonic() - started:.0f} s", flush=True)
    return status == 0


def main():
    """Read the command line, and take one step after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data", "out", "results"):
        parser.add_argument(name)
    parser.add_argument("--minutes", type=float, default=9)
    arguments, of_study = parser.parse_known_args()
    ends, folder = time.monotonic() + 60 * arguments.minutes, Path(arguments.results)
    folder.mkdir(parents=True, exist_ok=True)
    python, places = [sys.executable, "-u"], (arguments.data, arguments.out, arguments.results)
    study = [*python, HERE / "gpu_study.py", *places, *of_study]
    tests = [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE.parent / "test_cuda.py"]
    candidates = [*python, HERE / "bench_gpu_training.py", folder / "benchmarks_gpu.csv"]
    candidates += [str(SECONDS_OF_CANDIDATES - 20)]  # of which no way is begun later
    with subprocess.Popen([*study, "--prepare"]) as preparing:
        went_well = [
            run("tests", tests, SECONDS_OF_TESTS),
            run("candidates", candidates, SECONDS_OF_CANDIDATES),
        ]
    left = ends - time.monotonic()
    study += ["--minutes", f"{(left - SECONDS_TO_END) / 60:.2f}"]
    went_well += [preparing.returncode == 0, run("study", study, left)]
    return 0 if all(went_well) else 1


if __name__ == "__main__":
    sys.exit(main())
