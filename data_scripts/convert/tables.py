"""Tables that people write, mostly with a spreadsheet: every cell is text, every row has a line."""

import pandas as pd

from segcal_lite._checks import wrong_input
from segcal_lite.data.splits import fitting_cells, read_cells


def read_table(path, separator=","):
    r"""Read a table in UTF-8 whose first line names the columns.

    Parameters
    ----------
    path : Path
    separator : str
        What stands between two cells.

    Returns
    -------
    pandas.DataFrame
        Of text, blanks around it stripped; its index is the line of each row in the file. A row
        that ends early is filled up with empty cells, a column without a name is called by its
        number.

    Raises
    ------
    ValueError
        Naming the file, and the line if it is one: no text in UTF-8, nothing in it, a column that
        is there twice, a row with more cells than there are columns.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "coils.csv"
    >>> _ = path.write_text("case,coil\n001,yes,\n002\n")
    >>> read_table(path).to_dict("index")
    {2: {'case': '001', 'coil': 'yes'}, 3: {'case': '002', 'coil': ''}}
    """
    lines = read_cells(path, separator)
    if not lines:
        raise wrong_input(path, "an empty file", "a table in UTF-8, with names of columns")
    (_, names), *rows = lines
    columns = [name or f"column {number}" for number, name in enumerate(names, start=1)]
    if len(set(columns)) < len(columns):
        raise wrong_input(path, f"columns {', '.join(columns)}", "each once")
    cells = [fitting_cells(f"{path}, line {number}", columns, row) for number, row in rows]
    filled = [row + [""] * (len(columns) - len(row)) for row in cells]
    return pd.DataFrame(filled, [number for number, _ in rows], columns, dtype=str)
