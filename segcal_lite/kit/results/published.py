"""A run's tables and figures in ``results/``, and the generated tables of READMEs made of them."""

import gzip
import shutil

import pandas as pd

from ..._checks import wrong_input
from ...data.splits import check_name
from ...experiments.claims.deviations import made_of, record_of
from ...runs.folders import project_root, read_json, write_json, write_text
from ...runs.provenance import computed_on

LARGEST_TABLE = 500_000  # bytes; a longer one is compressed
KINDS = ("profile", "joint", "volumetric", "evaluation")  # in the record of each kind of run
NOT_RUN = "Not run yet: see `results/`.\n"


def publish(run, name):
    """Copy the tables and figures of a finished run to ``results/NAME``; return their paths.

    A long table becomes a ``.csv.gz``, which pandas reads as it is. What was published there before
    is replaced once the new is whole; another folder, or another kind of run, is refused.
    """
    files = sorted((run / "tables").glob("*.csv")) + sorted((run / "figures").glob("*.png"))
    if not files:
        raise wrong_input(run, "no tables or figures", "a run whose notebooks were executed")
    target = project_root() / "results" / check_name("NAME", name)
    if target.exists() and not (target / "provenance.json").exists():
        raise wrong_input(target, "no provenance.json", "what was published before, or nothing")
    record = record_of(run)
    aside, before = (target.with_name(f".{name}.{when}") for when in ("new", "old"))
    _check_kind(target, record)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    names = [_copy(path, aside).name for path in files]
    write_json(aside / "provenance.json", record)
    if target.exists():
        shutil.rmtree(before, ignore_errors=True)
        target.rename(before)
    aside.rename(target)
    shutil.rmtree(before, ignore_errors=True)
    return [target / name for name in names]


def _check_kind(target, record):
    """Refuse to replace what was published of a run that had none of the parts of this one."""
    before = {kind for kind in KINDS if kind in record_of(target)}
    if before and before.isdisjoint(record):
        found = "what was published of another kind of run"
        raise wrong_input(target, found, "another NAME, or the same kind")


def _copy(path, folder):
    """Copy a file; compress a long table so that the same bytes always give the same file."""
    if path.suffix != ".csv" or path.stat().st_size <= LARGEST_TABLE:
        return shutil.copy(path, folder / path.name)
    compressed = folder / f"{path.name}.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return compressed


def fill_readme(readme, tables):
    """Rewrite the generated tables of a README; what people wrote stays as it is.

    ``<!-- table NAME -->`` ... ``<!-- end -->`` holds what `tables` returns for NAME. Where one of
    these lines is missing the file is left as it was.
    """
    text = readme.read_text(encoding="utf-8")
    for name, table in tables.items():
        head, tail = f"<!-- table {name} -->\n", "<!-- end -->"
        if head not in text:
            raise wrong_input(readme, f"no line {head.strip()!r}", "one for each of its tables")
        before, _, rest = text.partition(head)
        old, end, after = rest.partition(tail)
        if not end or "<!-- table " in old:  # what follows would be lost with the old table
            found = f"no line {tail!r} behind {head.strip()!r}"
            raise wrong_input(readme, found, "one behind each table")
        text = before + head + table() + tail + after
    write_text(readme, text)
    return readme


def markdown_table(header, rows):
    r"""Return a table in Markdown, from texts.

    Examples
    --------
    >>> print(markdown_table(["a", "b"], [["1", "|r|"]]))
    | a | b |
    |---|---|
    | 1 | \|r\| |
    <BLANKLINE>
    """
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in (header, *rows))
    first, *others = ("| " + " | ".join(cells) + " |" for cells in escaped)
    return "\n".join([first, "|---" * len(header) + "|", *others]) + "\n"


def listed(values, digits=2):
    """Numbers in a row.

    >>> listed([0.5, 0.25])
    '0.50, 0.25'
    """
    return ", ".join(f"{value:.{digits}f}" for value in values)


def spread(values):
    """Smallest and largest of some numbers, and how many there are if some are missing."""
    if values is None or values.isna().all():
        return "none"
    missing = f" (n = {values.count()})" if values.isna().any() else ""
    ends = [f"{value:.2f}" for value in (values.min(), values.max())]
    return "-".join(dict.fromkeys(ends)) + missing


def interval(value, lo, hi):
    """A number with its interval."""
    return f"{value:.2f} ({lo:.2f} to {hi:.2f})"


def intervals(table):
    """`interval` of each row of a table with three columns."""
    return [interval(*numbers) for numbers in table.itertuples(index=False)]


def or_dash(value):
    """A number with two digits, or a dash for none."""
    return "-" if pd.isna(value) else f"{value:.2f}"


def made_by(story):
    """Where a table of several seeds comes from."""
    parts = []
    for key, rows in story.groupby(["commit", "date", "torch", "processor"], sort=False):
        seeds = ", ".join(map(str, rows.seed.unique()))
        parts.append("Seeds {}: commit {}, {}, torch {}, {}.".format(seeds, *key))
    return " ".join(parts)


def source_of(folder):
    """Where the numbers in a folder of results come from."""
    made = made_of(read_json(folder / "provenance.json"))
    run = f"Seed {made['seed']}, {made['profile']} profile, commit {all_commits(made)}"
    return f"{run}, {made['date']}, {all_devices(made)}."


def all_commits(made):
    """Return the commit of a run, and those at which it went on, as text."""
    return ", then ".join([made["commit"], *made.get("later_commits", [])])


def all_devices(made):
    """Return what computed a run, and what went on with it, as text."""
    return ", then ".join([computed_on(made), *made.get("later_devices", [])])
