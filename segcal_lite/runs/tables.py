"""Tables as CSV: written whole, and read with types, so that a name stays text.

A sealed table ends in an empty line: one that was cut short is noticed.
"""

import gzip
import zlib
from pathlib import Path

from .._checks import wrong_input
from .folders import write_text

TEXT_COLUMNS = (  # of all tables: what stands in them is a name, even if it looks like a number
    *("case", "domain", "patient", "group", "split", "segment", "region", "task", "data"),
    *("set", "dataset", "test_dataset", "training", "training_sequence", "stage", "experiment"),
    *("loss", "method", "metric", "interval", "comparison", "varied", "of"),
    *("detector", "rival", "layer", "window", "trial", "unseen"),
    *("notebook", "claim", "verdict", "why", "against", "folder", "note", "cases"),
    *("commit", "date", "torch", "python", "device", "processor", "statistic", "sizes"),
    *("size", "way", "part", "of_part", "profile", "seen", "sentence", "supported", "run"),
    "deviations",
    *("file", "sha256", "orientation", "doubts", "native_mm", "native_shape", "prepared_shape"),
)
UNREADABLE = ValueError, EOFError, gzip.BadGzipFile, zlib.error  # the last three: compressed ones


def write_table(path, table, sealed=False):
    """Write a DataFrame as CSV without its index, whole or not at all.

    Parameters
    ----------
    path : path
    table : pandas.DataFrame
        Columns of names are among `TEXT_COLUMNS`; a missing value and an empty text become an
        empty cell.
    sealed : bool
        End the file with an empty line, which readers skip. For a table whose presence says that
        work is done: however little is cut off it, the empty line is gone (`is_sealed`).
    """
    write_text(path, table.to_csv(index=False, lineterminator="\n") + "\n" * sealed)


def find_table(folder, name):
    """Return the path of a table, as it was written or compressed as published; None without it."""
    paths = (Path(folder) / f"{name}{ending}" for ending in (".csv", ".csv.gz"))
    return next((path for path in paths if path.exists()), None)


def is_sealed(path):
    """Whether a sealed table is there, and nothing of it cut off."""
    path = Path(path)
    return path.is_file() and path.read_bytes().endswith(b"\n\n")


def read_table(path, sealed=False, remove=None):
    """Read a table of `write_table`: names stay text, whatever they look like.

    Parameters
    ----------
    path : path
        A CSV file, also compressed.
    sealed : bool
        Refuse a table that is not sealed: it was cut short.
    remove : path, optional
        What to remove so that the table is made again; default the file itself.

    Returns
    -------
    pandas.DataFrame
        Columns in `TEXT_COLUMNS` are text, others numbers or truth values where all their cells
        are. An empty cell is missing (NaN), in text and in numbers, and nothing else is.

    Raises
    ------
    ValueError
        Naming the file: no table, or one that was cut short.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> path = Path(tempfile.mkdtemp()) / "scores.csv"
    >>> rows = {"case": ["002", "NA"], "segment": ["1", None], "value": [0.5, None]}
    >>> write_table(path, pd.DataFrame(rows))
    >>> read_table(path)
      case segment  value
    0  002       1    0.5
    1   NA     NaN    NaN
    """
    import pandas as pd

    if sealed and Path(path).exists() and not is_sealed(path):
        expected = f"the empty line at its end; remove {remove or 'it'} and run again"
        raise wrong_input(path, "a table that was cut short", expected)
    names = dict.fromkeys(TEXT_COLUMNS, str)
    try:
        table = pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])
    except UNREADABLE as error:
        expected = "a CSV file in UTF-8 with column names"
        raise wrong_input(path, f"no table ({error})", expected) from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for an index
        raise wrong_input(path, "rows with more cells than columns", "a name for each column")
    return table


def check_columns(path, table, numbers=(), texts=(), remove=None):
    """Return a table that was read from `path` if it has rows and these columns, else name it."""
    lacking = [name for name in (*numbers, *texts) if name not in table]
    lacking += [name for name in numbers if name in table and table[name].dtype.kind not in "if"]
    if lacking or table.empty:
        found = f"no {lacking[0]}, or not in numbers" if lacking else "no row"
        expected = f"a whole table; if a run has made it, remove {remove or 'it'} and run again"
        raise wrong_input(path, found, expected)
    return table
