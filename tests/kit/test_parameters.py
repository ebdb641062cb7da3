"""What a notebook's guard lets through."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import yaml

from segcal_lite import __main__
from segcal_lite.experiments.profiles import PROFILES
from segcal_lite.kit import parameters
from segcal_lite.kit.parameters import RULES, check_parameters, check_values, choose_out
from segcal_lite.runs.folders import project_root

FOLDER = project_root() / "notebooks"


def declared(name):
    """Names and values of a notebook's parameters."""
    cells = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    source = next(c.source for c in cells if "parameters" in c.metadata.get("tags", []))
    return {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(source).body}


def run(cells):
    """Run cells as a kernel does, and the guard behind them, under which nothing is shown."""
    values = {}
    for cell in cells:
        exec(cell, values)
    assert check_parameters(["", *cells, "check_parameters(In, globals())"], values) is None


def test_nothing_injected():
    run(["profile = 'smoke'\ndata = 'phantoms'"])


def test_the_last_injection_counts_when_a_cell_ran_twice():
    wrong, right = ["seed = 0", "# Parameters\nsed = 1"], ["seed = 0", "# Parameters\nseed = 2"]
    run([*wrong, "x = 1", *right])
    with pytest.raises(ValueError, match="parameter 'sed'"):
        run([*right, "x = 1", *wrong])


def test_later_variables_and_names_without_a_rule_are_no_parameters():
    cells = ["profile = 'smoke'\nmine = object()", "seed = -1\ncrop_size = 'x'"]
    run(cells)
    run(["seed = 0\nout = None", "# Parameters\nout = 'a'", "other = 3"])


def test_cells_of_shell_and_magic_are_passed_by():
    history = ["profile = 'smoke'\nseed = -1", "%matplotlib inline", "!ls"]
    with pytest.raises(ValueError, match="^parameter 'seed': found -1, expected"):
        check_parameters(history, {"profile": "smoke", "seed": -1})


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"parameter 'epochs': .* expected one of 'seed', 'out'"):
        run(["seed = 0\nout = None", "# Parameters\nepochs = 3"])


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.ipynb")))
def test_every_parameter_has_a_rule_that_its_default_keeps(name):
    assert declared(name).keys() <= RULES.keys()
    check_values(declared(name))


@pytest.mark.parametrize("path", sorted((FOLDER / "params").glob("*.yaml")), ids=lambda p: p.stem)
def test_files_of_parameters_pass(path):
    given = yaml.safe_load(path.read_text())
    check_values(({"sets": "phantoms"} if "sets" in given else {"data": "phantoms"}) | given)


def test_profiles_are_the_same_everywhere():
    assert tuple(PROFILES) == parameters.PROFILES == __main__.PROFILES


WRONG = {
    "data": [2024, 2e5, -1, float("nan"), True, None, "", " ", ["a"]],
    "volumes": [2, None],
    "sets": [float("inf"), None],
    "ood_data": [2024, ""],
    "task": [True, 4],
    "out": [5, ""],
    "profile": ["quick", "Smoke", None, 1, ["smoke"]],
    "seed": ["x", "0", 1.5, 1.0, -1, True, None, 1e30, 2**32],
    "device": ["gpu", "cuda:", "cuda:x", "CPU", None, 0],
    "scheduler": ["slurm", "tcp://", "tcp://host", "dask:tcp://host:1", "host:8786", "", None, 2],
    "leave_out": ["c3", [3], ["a", None], 3],
    "labels": [2, ""],
    "predictions": [2, "", [], ["a", ""], [1]],
    "new": [2, [None]],
    "images": [2, ["a"]],
    "runs": [2, [], [""]],
    "table": [2, ["a.csv"]],
    "joint_sets": ["a", [1, 2], ["a"], [], 2],
    "chain_sets": ["a, b", ["a"]],
    "trials": [
        "near",
        {"near": {"known": ["a", 1], "unseen": ["b"]}},
        {1: {"known": ["a"], "unseen": ["b"]}},
        {"near": {"known": ["a"]}},
        {"near": {"known": "a", "unseen": ["b"]}},
        ["near"],
    ],
    "n_epochs": [0, -1, 2.5, 2.0, "3", True, [3]],
    "n_members": [0, "2"],
    "n_evaluations": [0, "2"],
    "n_flat_to_stop": [0, "2"],
    "foreground_share": [1.5, -0.1, "0.5", True, float("nan")],
    "crop_size": [
        32,
        "[32, 32]",
        [0, 0],
        [-32, 32],
        [32],
        [32, 32, 32],
        [32, 40],
        [32.0, 32],
        "32",
    ],
    "cut_foreground": [1, "True", None, "false"],
}


def test_every_rule_is_tried():
    assert WRONG.keys() == RULES.keys()


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_a_wrong_value_is_refused_by_the_parameters_name(name, value):
    """Papermill makes 2 of 002, a truth value of True, text of a list; what was meant is lost."""
    found = re.escape(repr(value))
    with pytest.raises(ValueError, match=rf"^parameter '{name}': found {found}, expected .+\.$"):
        check_values({name: value})


RIGHT = {
    "data": ["002", Path("a")],
    "out": [None, "a"],
    "device": ["auto", "cpu", "cuda", "cuda:1", "mps"],
    "scheduler": ["processes", "dask", "tcp://10.0.0.1:8786", "tls://[::1]:8786"],
    "seed": [0, 2**32 - 1],
    "leave_out": [[], ["002"], ("a", "b")],
    "predictions": [None, "a", ["a"], ("a", "b")],
    "joint_sets": [["a", "2"]],
    "trials": [None, {}, {"1": {"known": ["a"], "unseen": ["2"]}}],
    "n_epochs": [None, 1],
    "crop_size": [None, [16, 160], (64, 64)],
    "cut_foreground": [True],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in RIGHT.items() for v in values])
def test_a_right_value_passes(name, value):
    check_values({name: value})


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("data", [32, 32], [32, 32, 32]),
        ("volumes", [32, 32, 16], [32, 32]),
        ("volumes", [32, 32, 32], [32, 32, 20]),
        ("sets", [40, 41, 1], [40, 40, 0]),
        ("sets", None, [40, 40]),
    ],
)
def test_a_crop_has_as_many_sides_as_what_is_cropped(kind, right, wrong):
    check_values({kind: "phantoms", "crop_size": right})
    with pytest.raises(ValueError, match="^parameter 'crop_size': found"):
        check_values({kind: "phantoms", "crop_size": wrong})


def test_what_somebody_wrote_into_the_cell_is_checked_as_what_papermill_injects():
    with pytest.raises(ValueError, match="'crop_size': found '32', expected two multiples of 16"):
        run(["profile = 'smoke'\ncrop_size = str(32)"])
    with pytest.raises(ValueError, match="'data': found 2, expected text, by papermill's option"):
        run(["profile = 'smoke'\ndata = 'a'", "# Parameters\ndata = 2\n"])


def test_the_run_folder(monkeypatch):
    monkeypatch.delenv("SEGCAL_OUT", raising=False)
    assert choose_out(None, "phantoms", "heart", "smoke") == "runs/phantoms-heart-smoke"
    assert choose_out(None, "phantoms", None, "smoke") == "runs/phantoms-smoke"
    assert choose_out(None, "some/Task04/", None, "laptop") == "runs/Task04-laptop"
    assert choose_out(None, "some/phantoms", None, "laptop") == "runs/phantoms-laptop"
    root = project_root().resolve()
    assert choose_out(None, "..", None, "laptop") == f"runs/{root.parent.name}-laptop"
    assert choose_out(None, ".", None, "laptop") == f"runs/{root.name}-laptop"
    monkeypatch.setenv("SEGCAL_OUT", "runs/fresh")
    assert choose_out(None, "phantoms", "heart", "smoke") == "runs/fresh"
    assert choose_out("mine", "phantoms", "heart", "smoke") == "mine"
