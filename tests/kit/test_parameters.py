import pytest

from segcal_lite.kit.parameters import check_injected, choose_out


def test_nothing_injected_nothing_checked():
    assert check_injected(["", "data = 'phantoms'", "import numpy"]) == []


def test_the_last_injection_counts_when_a_cell_ran_twice():
    history = ["seed = 0", "# Parameters\nseed = 1", "x = 1", "seed = 0", "# Parameters\nseed = 2"]
    assert check_injected(history) == ["seed"]


def test_later_variables_are_no_parameters():
    assert check_injected(["seed = 0\nout = None", "# Parameters\nout = 'a'", "other = 3"]) == [
        "out"
    ]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"parameter 'epochs': .* expected one of 'seed', 'out'"):
        check_injected(["seed = 0\nout = None", "# Parameters\nepochs = 3"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", "2024"),
        ("data", "2e5"),
        ("data", "-1"),
        ("sets", "float('nan')"),
        ("task", "True"),
        ("out", "5"),
        ("trials", '{"near": {"known": ["a", 1], "unseen": ["b"]}}'),
        ("trials", '{1: {"known": ["a"], "unseen": ["b"]}}'),
        ("joint_sets", "[1, 2]"),
    ],
)
def test_a_number_is_no_name(name, value):
    """Papermill makes 2 of 002 and a truth value of True; what was meant is lost."""
    with pytest.raises(ValueError, match=f"^parameter '{name}': found .*, expected text, given by"):
        check_injected([f"{name} = None\nseed = 0", f"# Parameters\n{name} = {value}"])


def test_names_as_text_and_numbers_elsewhere_pass():
    declared = "data = 'phantoms'\ntrials = None\nseed = 0\ncrop_size = None"
    injected = "# Parameters\ndata = '002'\nseed = 3\ncrop_size = [1, 2, 3]\n"
    trials = "trials = {'1': {'known': ['a'], 'unseen': ['2']}}"
    assert check_injected([declared, injected + trials]) == ["data", "seed", "crop_size", "trials"]
    assert check_injected([declared, "# Parameters\ndata = None\ntrials = None"]) == [
        "data",
        "trials",
    ]


def test_the_run_folder(monkeypatch):
    monkeypatch.delenv("SEGCAL_OUT", raising=False)
    assert choose_out(None, "phantoms", "heart", "smoke") == "runs/phantoms-heart-smoke"
    assert choose_out(None, "phantoms", None, "smoke") == "runs/phantoms-smoke"
    assert choose_out(None, "some/Task04/", None, "laptop") == "runs/Task04-laptop"
    assert choose_out(None, "some/phantoms", None, "laptop") == "runs/phantoms-laptop"
    monkeypatch.setenv("SEGCAL_OUT", "runs/fresh")
    assert choose_out(None, "phantoms", "heart", "smoke") == "runs/fresh"
    assert choose_out("mine", "phantoms", "heart", "smoke") == "mine"
