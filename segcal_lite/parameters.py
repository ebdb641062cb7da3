"""Parameters of a notebook: refuse unknown names, which papermill only warns about."""

import ast
import os
from pathlib import Path

from ._checks import wrong_input

PHANTOM_TASK = "heart"  # of phantoms, where no task is named; data say themselves what they are
INJECTED = "# Parameters"  # first line of the cell that papermill puts behind the declared one


def check_injected(history):
    r"""Refuse injected parameters that the notebook does not declare.

    Parameters
    ----------
    history : list of str
        Sources of the cells that ran so far: ``In`` in a notebook.

    Returns
    -------
    list of str
        Names that were injected.

    Raises
    ------
    ValueError
        If a name was injected that the cell before the injected one does not assign.

    Examples
    --------
    >>> check_injected(["seed = 0", "# Parameters\nseed = 1"])
    ['seed']
    >>> check_injected(["seed = 0", "# Parameters\nsead = 1"])
    Traceback (most recent call last):
    ...
    ValueError: parameter 'sead': found in the injected cell, expected one of 'seed'.
    """
    at = [index for index, source in enumerate(history) if source.startswith(INJECTED)]
    if not at:
        return []
    declared, injected = (_assigned_names(history[index]) for index in (at[-1] - 1, at[-1]))
    for name in injected:
        if name not in declared:
            expected = "one of " + ", ".join(map(repr, declared))
            raise wrong_input(f"parameter {name!r}", "in the injected cell", expected)
    return injected


def _assigned_names(source):
    """Names that plain assignments give a value."""
    return [
        target.id
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
    ]


def choose_out(out, data, task, profile):
    """Run folder of a notebook: `out`, else ``$SEGCAL_OUT``, else ``runs/<data>-<task>-<profile>``.

    Notebooks with the same data, task and profile so share a folder, and what one has made the
    next one finds. Without a task it is `PHANTOM_TASK` for phantoms, ``own`` for data.

    Examples
    --------
    >>> choose_out("runs/mine", "phantoms", None, "smoke")
    'runs/mine'
    """
    if out is not None:
        return str(out)
    if os.environ.get("SEGCAL_OUT"):
        return os.environ["SEGCAL_OUT"]
    unnamed = PHANTOM_TASK if str(data) == "phantoms" else "own"
    return f"runs/{Path(data).name}-{task or unnamed}-{profile}"
