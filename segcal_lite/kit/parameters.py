"""Parameters of a notebook: names, types and ranges, checked once before anything is made."""

import ast
import os
import re

from .._checks import LARGEST_SEED, wrong_input
from ..runs.executors import IN_WORDS, SCHEDULERS
from ..runs.folders import resolve_path
from .arguments import PROFILES

INJECTED = "# Parameters"  # first line of the cell that papermill puts behind the declared one
DEVICES = r"auto|cpu|mps|cuda(:\d+)?"


def check_parameters(history, values):
    r"""Refuse parameters that the notebook does not declare, or that cannot be what was meant.

    Parameters
    ----------
    history : list of str
        Sources of the cells that ran so far: ``In`` in a notebook.
    values : dict
        What is to be checked, by name: ``globals()`` in a notebook.

    Raises
    ------
    ValueError
        If papermill injected a name that the cell before the injected one does not assign, or as
        `check_values`.

    Examples
    --------
    >>> check_parameters(["profile = 'smoke'", "# Parameters\nprofile = 'paper'"], {})
    >>> check_parameters(["profile = 'smoke'", "# Parameters\nprofil = 'paper'"], {})
    Traceback (most recent call last):
    ...
    ValueError: parameter 'profil': found in the injected cell, expected one of 'profile'.
    """
    assigned = list(map(_assigned, history))
    injections = [at for at, source in enumerate(history) if source.startswith(INJECTED)]
    injected = assigned[injections[-1]] if injections else []
    if injections:
        declared = assigned[injections[-1] - 1]
    else:  # every notebook declares a profile
        declared = next((names for names in reversed(assigned) if "profile" in names), [])
    for name in injected:
        if name not in declared:
            expected = "one of " + ", ".join(map(repr, declared))
            raise wrong_input(f"parameter {name!r}", "in the injected cell", expected)
    check_values({name: values[name] for name in declared if name in values})


def _assigned(source):
    """Names that a cell's plain assignments give; none in a cell that is no Python alone."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return []
    targets = [each for s in statements if isinstance(s, ast.Assign) for each in s.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def check_values(values):
    """Refuse parameters of wrong type or range, by name: the same ones in every notebook.

    Parameters
    ----------
    values : dict
        A crop has two sides; where there are ``volumes`` or ``sets`` it has three. Names without
        a rule, which somebody added to a notebook, pass.

    Raises
    ------
    ValueError
        Naming the first that is wrong, say a number where a name is meant, as papermill makes of
        ``-p data 002``, or text where a list is, as it makes of ``-p crop_size "[32, 32]"``.

    Examples
    --------
    >>> check_values({"data": "phantoms", "crop_size": [64, 48], "n_epochs": None})
    >>> check_values({"n_epochs": 2.5})
    Traceback (most recent call last):
    ...
    ValueError: parameter 'n_epochs': found 2.5, expected an integer of at least 1.
    """
    for name in [name for name in values if name in RULES]:
        value, (may_be_absent, is_right, expected) = values[name], RULES[name]
        if name == "crop_size" and "volumes" in values:
            is_right, expected = _is_crop(3, 16), "three multiples of 16"
        if name == "crop_size" and "sets" in values:
            is_right, expected = _is_crop(3, 1), "three integers of at least 1"
        if not (is_right(value) or (may_be_absent and value is None)):
            if isinstance(value, str) and name not in TEXTS:
                expected += ": papermill's option -y, or a YAML file, gives more than text"
            raise wrong_input(f"parameter {name!r}", repr(value), expected)


def _is_name(value):
    """Whether a value is text, or a path, that is not empty."""
    return isinstance(value, str | os.PathLike) and bool(str(value).strip())


def _is_list_of_names(value):
    """Whether a value is a list of texts."""
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _is_folders(value):
    """Whether a value is one folder, or a list of at least one."""
    return _is_name(value) or (
        _is_list_of_names(value) and bool(value) and all(map(_is_name, value))
    )


def _is_mix(value):
    """Whether a value is a list of texts, two or more."""
    return _is_list_of_names(value) and len(value) >= 2


def _is_trials(value):
    """Whether a value is a table of trials as `given_trials` takes it."""
    return isinstance(value, dict) and all(
        _is_name(title)
        and isinstance(trial, dict)
        and all(_is_list_of_names(trial.get(key)) for key in ("known", "unseen"))
        for title, trial in value.items()
    )


def _is_integer(value, minimum=1, maximum=None):
    """Whether a value is an integer in a range; True and 2.0 are none."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and value >= minimum and (maximum is None or value <= maximum)


def _is_share(value):
    """Whether a value is a number from 0 to 1."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= 1


def _is_crop(n, multiple):
    """Return what tells whether a value is `n` sides, each a multiple of `multiple`."""

    def is_right(value):
        is_list = isinstance(value, list | tuple) and len(value) == n
        return is_list and all(_is_integer(side) and side % multiple == 0 for side in value)

    return is_right


TEXTS = ("data", "volumes", "sets", "ood_data", "task", "out", "profile", "device", "scheduler")
TEXTS += ("labels", "predictions", "new", "images", "runs", "table")
NAME = _is_name, "text, by papermill's option -r, or in quotes in a YAML file"
COUNT = True, _is_integer, "an integer of at least 1"
FOLDERS = True, _is_folders, "a folder, or a list of folders, each as text"
MIX = True, _is_mix, "a list of at least two sets, each as text"
RULES = {  # for each parameter: may it be None, what tells whether a value is right, in words
    "data": (False, *NAME),
    "volumes": (False, *NAME),
    "sets": (False, *NAME),
    "ood_data": (True, *NAME),
    "task": (True, *NAME),
    "out": (True, *NAME),
    "profile": (False, PROFILES.__contains__, "one of " + ", ".join(map(repr, PROFILES))),
    "seed": (
        False,
        lambda value: _is_integer(value, 0, LARGEST_SEED),
        f"an integer from 0 to {LARGEST_SEED}",
    ),
    "device": (
        False,
        lambda value: isinstance(value, str) and re.fullmatch(DEVICES, value),
        "'auto', 'cpu', 'cuda', 'cuda:0' or another number, or 'mps'",
    ),
    "scheduler": (
        False,
        lambda value: isinstance(value, str) and re.fullmatch(SCHEDULERS, value),
        IN_WORDS,
    ),
    "leave_out": (True, _is_list_of_names, "a list of names, each as text"),
    "labels": (True, *NAME),
    "predictions": FOLDERS,
    "new": FOLDERS,
    "images": (True, *NAME),
    "runs": FOLDERS,
    "table": (True, *NAME),
    "joint_sets": MIX,
    "chain_sets": MIX,
    "trials": (
        True,
        _is_trials,
        '{"title": {"known": [sets], "unseen": [sets]}} with names as text',
    ),
    "n_epochs": COUNT,
    "n_members": COUNT,
    "n_evaluations": COUNT,
    "n_flat_to_stop": COUNT,
    "foreground_share": (True, _is_share, "a number from 0 to 1"),
    "crop_size": (True, _is_crop(2, 16), "two multiples of 16"),
    "cut_foreground": (False, lambda value: isinstance(value, bool), "True or False"),
}


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
    return "runs/" + "-".join(filter(None, (resolve_path(data).name, task, profile)))
