import pytest

from segcal_lite.parameters import check_injected, choose_out


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


def test_the_run_folder(monkeypatch):
    monkeypatch.delenv("SEGCAL_OUT", raising=False)
    assert choose_out(None, "phantoms", "heart", "smoke") == "runs/phantoms-heart-smoke"
    assert choose_out(None, "phantoms", None, "smoke") == "runs/phantoms-heart-smoke"
    assert choose_out(None, "some/Task04/", None, "laptop") == "runs/Task04-own-laptop"
    assert choose_out(None, "some/phantoms", None, "laptop") == "runs/phantoms-own-laptop"
    monkeypatch.setenv("SEGCAL_OUT", "runs/fresh")
    assert choose_out(None, "phantoms", "heart", "smoke") == "runs/fresh"
    assert choose_out("mine", "phantoms", "heart", "smoke") == "mine"
