"""What the demo hands to each notebook."""

import pytest
from conftest import write_dataset

from segcal_lite import __main__
from segcal_lite.kit import commands


@pytest.fixture
def handed(monkeypatch, tmp_path):
    """Run a command line without executing notebooks; return the parameters of each."""
    parameters = {}

    def execute(source, executed, given, kernel):
        parameters[source.stem] = given

    monkeypatch.setattr(commands.pages, "execute_notebook", execute)
    monkeypatch.setattr(commands.pages, "write_page", lambda path, names: None)
    monkeypatch.setattr(commands.index_page, "write_index", lambda folder, names: folder)
    monkeypatch.setattr(__main__, "ensure_environment", lambda extras: __main__.sys.executable)

    def run(*arguments):
        parameters.clear()
        assert __main__.main(["demo", "--out", str(tmp_path / "out"), *map(str, arguments)]) == 0
        return parameters

    return run


def test_each_line_says_notebook_seconds_and_what_is_next(handed, tmp_path, capsys):
    handed()
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "first: 01_preprocessing (1 of 8)"
    assert lines[2] == "03_calibration         0 s   next: 04_segment_entropy (4 of 8)"
    assert lines[7] == "08_ood_volumes         0 s   next: the report"
    assert len(lines) == len(commands.NOTEBOOKS)
    assert last == f"done: open {tmp_path / 'out'}"


def test_a_page_that_cannot_be_written_is_an_error(handed, monkeypatch):
    def write_page(path, names):
        raise OSError("disk full")

    monkeypatch.setattr(commands.pages, "write_page", write_page)
    with pytest.raises(OSError, match="disk full"):
        handed()


def test_slow_tests_are_not_among_the_others(monkeypatch):
    steps = []
    monkeypatch.setattr(commands, "_python", lambda *step, **environment: steps.append(step))
    commands.test()
    commands.test_slow()
    *_, pytest_step, _, slow_step = steps
    assert pytest_step[-2:] == ("-m", "not real and not slow")
    assert slow_step[:5] == ("-m", "pytest", "tests", "-m", "slow")


def test_nobody_gets_a_task_unasked(handed, tmp_path):
    for arguments in ((), ("--data", tmp_path), ("--volumes", tmp_path)):
        assert {given.get("task") for given in handed(*arguments).values()} == {None}
    given = handed("--data", tmp_path, "--task", "spleen", "--volumes", tmp_path)
    assert given["03_calibration"]["task"] == "spleen"
    assert "task" not in given["06_volumetric"]


def test_what_is_left_out_goes_where_it_is_from(handed, tmp_path):
    write_dataset(tmp_path / "a", channels=("T1",))
    write_dataset(tmp_path / "raw" / "b", channels=("T2",), n_cases=12)
    write_dataset(tmp_path / "raw" / "c")
    sources = "--data", tmp_path / "a", "--volumes", tmp_path / "a", "--sets", tmp_path / "raw"
    given = handed(*sources, "--leave-out", "c11", "c", "c3")
    for name, parameters in given.items():
        expected = ["c", "c11", "c3"] if name.startswith(("07", "08")) else ["c3"]
        assert parameters["leave_out"] == expected
    assert {parameters["leave_out"] for parameters in handed(*sources).values()} == {None}


def test_names_that_nothing_has_are_refused_before_anything_runs(handed, tmp_path):
    write_dataset(tmp_path / "a")
    with pytest.raises(ValueError, match=r"--leave-out: found d1, expected names .* --data .*a\."):
        handed("--data", tmp_path / "a", "--leave-out", "c1", "d1")
    with pytest.raises(ValueError, match="--leave-out: found heart_001, expected names of cases"):
        handed("--leave-out", "heart_001")
    assert not (tmp_path / "out").exists()


def test_crops_go_to_the_networks_they_are_for(handed):
    given = handed("--crop-size", 128, 96, "--volumes-crop-size", 32, 32, 16, "--cut-foreground")
    assert given["01_preprocessing"]["crop_size"] == [128, 96]
    assert given["06_volumetric"]["crop_size"] == [32, 32, 16]
    assert "crop_size" not in given["07_joint_training"]
    assert {parameters["cut_foreground"] for parameters in given.values()} == {True}
