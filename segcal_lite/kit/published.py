"""Take a run's tables and figures over into ``results/`` and the READMEs, with their provenance."""

import gzip
import shutil

from .._checks import wrong_input
from ..runs.folders import project_root, read_json, write_json
from .readme_tables import TABLES
from .readmes import fill_readme

LARGEST_TABLE = 500_000  # bytes; a longer one is compressed


def publish(run, name):
    """Copy the tables and figures of a finished run to ``results/NAME``; return their paths.

    A long table becomes a ``.csv.gz``, which pandas reads as it is.
    """
    files = sorted((run / "tables").glob("*.csv")) + sorted((run / "figures").glob("*.png"))
    if not files:
        raise wrong_input(run, "no tables or figures", "a run whose notebooks were executed")
    record = read_json(run / "provenance.json")
    if (run / "run.json").exists():
        record = read_json(run / "run.json") | record
    if (run / "joint.json").exists():
        record["joint"] = read_json(run / "joint.json")
    target = project_root() / "results" / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    written = [_copy(path, target) for path in files]
    write_json(target / "provenance.json", record)
    return written


def _copy(path, folder):
    """Copy a file; compress a long table so that the same bytes always give the same file."""
    if path.suffix != ".csv" or path.stat().st_size <= LARGEST_TABLE:
        return shutil.copy(path, folder / path.name)
    compressed = folder / f"{path.name}.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return compressed


def fill_readmes(folder):
    """Rewrite the tables of numbers in `README.md` and `results/README.md`, below `folder`."""
    return [fill_readme(folder / name, tables) for name, tables in TABLES.items()]
