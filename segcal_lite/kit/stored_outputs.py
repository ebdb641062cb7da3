"""What a notebook keeps in the repository: outputs of checked and kept cells, nothing else."""

import nbformat

from .._checks import wrong_input
from ..runs.folders import written_aside

KEPT = {"keep-output", "nbval-check-output"}


def store_outputs(source, executed):
    """Put the outputs of an executed copy into a notebook's checked and kept cells; empty the rest.

    Execution counts stay: nbval pairs stored and new outputs through them.

    Parameters
    ----------
    source, executed : paths
        The notebook, and what papermill made of it (with a cell of injected parameters, or not).

    Raises
    ------
    ValueError
        If the two differ in their code, or a checked cell put nothing out.
    """
    notebook, run = (nbformat.read(path, as_version=4) for path in (source, executed))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    ran = [
        cell
        for cell in run.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    if [cell.source for cell in cells] != [cell.source for cell in ran]:
        raise wrong_input(executed, "other code", f"an execution of {source}")
    for count, (cell, executed_cell) in enumerate(zip(cells, ran, strict=True), start=1):
        tags = set(cell.metadata.get("tags", []))
        cell.execution_count = count
        cell.outputs = executed_cell.outputs if tags & KEPT else []
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
        if "nbval-check-output" in tags and not cell.outputs:
            raise wrong_input(f"cell {count} of {source}", "no output to check", "some")
    with written_aside(source) as partial:
        nbformat.write(notebook, partial)
