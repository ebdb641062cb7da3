"""Parameters of a notebook: refuse unknown names, which papermill only warns about."""

import ast
import os
from pathlib import Path

from .._checks import wrong_input

INJECTED = "# Parameters"  # first line of the cell that papermill puts behind the declared one
NAMES = (  # parameters that are names or paths, or hold some
    *("data", "ood_data", "volumes", "sets", "task", "out"),
    *("joint_sets", "chain_sets", "trials", "leave_out"),
)


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
        If a name was injected that the cell before the injected one does not assign, or a number
        where a name is meant: papermill makes 2 of ``-p data 002``.

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
    declared, injected = (_assigned(history[index]) for index in (at[-1] - 1, at[-1]))
    for name, value in injected.items():
        if name not in declared:
            expected = "one of " + ", ".join(map(repr, declared))
            raise wrong_input(f"parameter {name!r}", "in the injected cell", expected)
        if name in NAMES and not all(map(_may_be_name, ast.walk(value))):
            expected = "text, given by papermill's option -r, or in quotes in a YAML file"
            raise wrong_input(f"parameter {name!r}", ast.unparse(value), expected)
    return list(injected)


def _assigned(source):
    """Syntax trees of the values that plain assignments give, by name."""
    return {
        target.id: statement.value
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
    }


def _may_be_name(node):
    """Whether a part of a value is no number: papermill writes infinity as ``float('inf')``."""
    is_other = isinstance(node, ast.Constant) and not isinstance(node.value, str | None)
    return not (is_other or isinstance(node, ast.Call))


def choose_out(out, data, task, profile):
    """Run folder of a notebook: `out`, else ``$SEGCAL_OUT``, else ``runs/<data>-<task>-<profile>``.

    Notebooks with the same data, task and profile so share a folder, and what one has made the
    next one finds. Without a task it is ``runs/<data>-<profile>``.

    Examples
    --------
    >>> choose_out("runs/mine", "phantoms", None, "smoke")
    'runs/mine'
    """
    if out is not None:
        return str(out)
    if os.environ.get("SEGCAL_OUT"):
        return os.environ["SEGCAL_OUT"]
    return "runs/" + "-".join(filter(None, (Path(data).name, task, profile)))
