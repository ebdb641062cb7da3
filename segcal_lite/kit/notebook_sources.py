"""Two copies of each notebook from one source: for students, and for instructors.

An exercise is a cell tagged ``exercise`` that defines a function raising `NotImplementedError`,
then a cell tagged ``solution``, then one tagged ``check``. Students get no solutions.
"""

import nbformat

from .._checks import wrong_input
from ..runs.folders import written_aside


def tags(cell):
    """Tags of a notebook cell.

    Examples
    --------
    >>> tags({"metadata": {"tags": ["solution"]}})
    ['solution']
    """
    return cell["metadata"].get("tags", [])


def exercises(notebook):
    """Return the exercises of a notebook as (stub, solution, check) sources.

    Parameters
    ----------
    notebook : nbformat.NotebookNode

    Returns
    -------
    list of tuple of three str

    Raises
    ------
    ValueError
        If exercise, solution and check do not follow one another.
    """
    marked = [
        (tag, cell.source)
        for cell in notebook.cells
        for tag in tags(cell)
        if tag in ("exercise", "solution", "check")
    ]
    names = [tag for tag, _ in marked]
    if names != ["exercise", "solution", "check"] * (len(names) // 3):
        raise wrong_input("exercise cells", names, "exercise, solution, check, in turn")
    sources = [source for _, source in marked]
    return list(zip(sources[::3], sources[1::3], sources[2::3], strict=True))


def write_copies(folder, out):
    """Write ``out/student`` and ``out/instructor`` copies of all notebooks in `folder`.

    Parameters
    ----------
    folder, out : paths

    Returns
    -------
    list of path
        The copies, in the order of their names.
    """
    written = []
    for audience in ("instructor", "student"):
        for source in sorted(folder.glob("*.ipynb")):
            notebook = nbformat.read(source, as_version=4)
            exercises(notebook)
            if audience == "student":
                kept = [cell for cell in notebook.cells if "solution" not in tags(cell)]
                notebook.cells = kept
            target = out / audience / source.name
            with written_aside(target) as partial:
                nbformat.write(notebook, partial)
            written.append(target)
    return written
