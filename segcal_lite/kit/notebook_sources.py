"""Sources of the notebooks: their exercises, copies for two audiences, and stored outputs.

An exercise is a cell tagged ``exercise`` that defines a function raising `NotImplementedError`,
then a cell tagged ``solution``, then one tagged ``check``. Students get no solutions. Cells whose
tag is in `KEPT` store what they put out; all others are stored empty.
"""

import nbformat

from .._checks import wrong_input
from ..runs.folders import written_aside

KEPT = {"keep-output", "nbval-check-output"}


def tags(cell):
    """Tags of a notebook cell.

    Examples
    --------
    >>> tags({"metadata": {"tags": ["solution"]}})
    ['solution']
    """
    return cell["metadata"].get("tags", [])


def exercises(notebook):
    """Return the exercises of a notebook as (stub, solution, check) sources, in their order."""
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
    """Write ``out/student`` and ``out/instructor`` copies of all notebooks in `folder`."""
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


def _joined(outputs):
    """Outputs with each text in one piece: in how many a kernel sends it is chance."""
    joined = []
    for output in outputs:
        before = joined[-1] if joined else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            before["text"] += output.text
        else:
            joined.append(output)
    return joined


def store_outputs(source, executed):
    """Put the outputs of an executed copy into a notebook's checked and kept cells; empty the rest.

    Execution counts stay: nbval pairs stored and new outputs through them. Other code in the two,
    or a checked cell that put nothing out, are a ``ValueError``.
    """
    notebook, run = (nbformat.read(path, as_version=4) for path in (source, executed))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    ran = [cell for cell in run.cells if cell.cell_type == "code"]
    ran = [cell for cell in ran if "injected-parameters" not in tags(cell)]
    if [cell.source for cell in cells] != [cell.source for cell in ran]:
        raise wrong_input(executed, "other code", f"an execution of {source}")
    for count, (cell, executed_cell) in enumerate(zip(cells, ran, strict=True), start=1):
        cell.execution_count = count
        cell.outputs = _joined(executed_cell.outputs) if KEPT.intersection(tags(cell)) else []
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
        if "nbval-check-output" in tags(cell) and not cell.outputs:
            raise wrong_input(f"cell {count} of {source}", "no output to check", "some")
    with written_aside(source) as partial:
        nbformat.write(notebook, partial)
