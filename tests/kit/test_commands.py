"""What the demo hands to each notebook, what it refuses before, and what JupyterLab is given."""

import json
import os
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import write_dataset

from segcal_lite import __main__
from segcal_lite.kit import checks, commands
from segcal_lite.runs import schedules
from segcal_lite.runs.tables import write_table

SOURCES = {"data": "a", "volumes": "b", "sets": "raw"}


@pytest.fixture
def handed(monkeypatch, tmp_path):
    """Run a command line without executing notebooks; return the parameters of each."""
    parameters = {}

    def execute(source, executed, given, kernel, printed):
        parameters[source.stem] = given

    monkeypatch.setattr(commands.pages, "execute_notebook", execute)
    monkeypatch.setattr(commands.pages, "write_page", lambda path, names: None)
    monkeypatch.setattr(commands.index_page, "write_index", lambda folder, names: folder)
    monkeypatch.setattr(commands, "_data_to_check", lambda *arguments: {})
    monkeypatch.setattr(__main__, "ensure_environment", lambda extras: __main__.sys.executable)

    def run(*arguments):
        parameters.clear()
        assert __main__.main(["demo", "--out", str(tmp_path / "out"), *map(str, arguments)]) == 0
        return parameters

    return run


def test_each_line_says_notebook_seconds_and_what_is_next(handed, tmp_path, capsys):
    handed()
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "first: 01_preprocessing (1 of 10)"
    assert lines[2] == "03_calibration         0 s   next: 04_segment_entropy (4 of 10)"
    assert lines[9] == "10_claims              0 s   next: the report"
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
    monkeypatch.setattr(checks, "run_python", lambda *step, **environment: steps.append(step))
    checks.test()
    checks.test_slow()
    *_, pytest_step, _, slow_step = steps
    assert pytest_step[-2:] == ("-m", "not real and not slow and not nnunet")
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


def test_a_notebook_that_takes_long_says_its_last_line(handed, monkeypatch, capsys):
    def execute(source, executed, given, kernel, printed):
        printed.write("training 14 models\n3/14 dice 2: Dice 0.81\n")
        printed.write("\n")
        if source.stem == "02_training":
            time.sleep(0.3)

    monkeypatch.setattr(commands.pages, "execute_notebook", execute)
    monkeypatch.setattr(schedules, "SECONDS_BETWEEN_REPORTS", 0.2)
    handed()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line[0] == " "] == ["  02_training: 3/14 dice 2: Dice 0.81"]


def notebook(folder, *cells):
    source = folder / "notebook.ipynb"
    cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    return source


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("raise ValueError('seed: found 1')", r"notebook\.ipynb, cell In \[2\]: seed: found 1\n"),
        ("[][1]", r"notebook\.ipynb, cell In \[2\]: IndexError: list index out of range\n"),
        ("import os; os._exit(1)", r"notebook\.ipynb: the kernel died, perhaps for lack of memory"),
    ],
)
def test_a_notebook_that_fails_is_one_sentence_and_is_kept(cell, said, tmp_path):
    source, printed = notebook(tmp_path, "print('a line')", cell), commands.pages.LastLine()
    target = tmp_path / "out" / "notebook.ipynb"
    with pytest.raises(RuntimeError, match=rf"^{said}") as raised:
        commands.pages.execute_notebook(source, target, {}, "python3", printed)
    assert str(raised.value).endswith(
        f"(as far as it came: {target.with_name('failed-notebook.ipynb')})"
    )
    assert str(raised.value).count("\n") == 1
    assert not target.exists()
    assert target.with_name("failed-notebook.ipynb").exists()
    assert printed.line == "a line"


def test_data_are_checked_once_before_their_cases_are_prepared(tmp_path):
    for name in ("a", "b", "raw/b", "raw/c"):
        write_dataset(tmp_path / name, channels=("T1",))
    sources = {key: str(tmp_path / name) for key, name in SOURCES.items()}
    absent = {"data": ["c3"], "volumes": None, "sets": ["c", "c4"]}
    out = tmp_path / "out"
    given = sources, absent, "heart", out, 0
    found = {
        place.relative_to(tmp_path).as_posix(): options[1:]
        for place, options in commands._data_to_check(*given).items()
    }
    assert found == {
        "a": ["--task", "heart", "--leave-out", "c3"],
        "b": [],
        "raw/b": ["--leave-out", "c4"],
    }
    for place in (out, out / "sets" / "b"):
        write_table(place / "prepared" / "cases.csv", pd.DataFrame({"case": ["c1"]}), sealed=True)
    assert [place.name for place in commands._data_to_check(*given)] == ["b"]
    phantoms = dict.fromkeys(sources, "phantoms")
    assert commands._data_to_check(phantoms, absent, None, out, 0) == {}


@pytest.mark.slow
def test_one_bad_case_ends_the_demo_before_a_kernel_starts(tmp_path, capfd):
    write_dataset(tmp_path / "a")
    assert commands._are_fit({tmp_path / "a": [str(tmp_path / "a")]})
    assert "fit" not in capfd.readouterr().out
    (tmp_path / "a" / "labelsTr" / "c3.nii.gz").write_bytes(b"")
    assert not commands._are_fit({tmp_path / "a": [str(tmp_path / "a")]})
    said = capfd.readouterr().out
    assert "c3: " in said
    assert "c2: " not in said
    assert "--leave-out c3" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--crop-size", "64", "40"], "^parameter 'crop_size': found .64, 40., expected two mult"),
        (
            ["--volumes-crop-size", "32", "32", "0"],
            "^parameter 'crop_size': found .32, 32, 0., exp",
        ),
        (["--device", "gpu"], "^parameter 'device': found 'gpu', expected 'auto'"),
        (["--task", "spine"], "^task: found 'spine', expected one of 'brain'"),
    ],
)
def test_a_wrong_parameter_ends_the_demo_before_anything_is_made(arguments, said, handed, tmp_path):
    with pytest.raises(ValueError, match=said):
        handed(*arguments)
    assert not list(tmp_path.iterdir())


def test_a_crop_of_volumes_that_are_not_there_is_refused(handed, tmp_path):
    write_dataset(tmp_path / "a")
    told = r"^--volumes-crop-size: found \[32, 32, 16\], expected --volumes beside it"
    with pytest.raises(ValueError, match=told):
        handed("--data", tmp_path / "a", "--volumes-crop-size", 32, 32, 16)
    assert not (tmp_path / "out").exists()


def test_outputs_are_stored_of_all_notebooks_or_of_none(monkeypatch, tmp_path):
    monkeypatch.setattr(commands.notebook_sources, "store_outputs", pytest.fail)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_preprocessing.ipynb").touch()
    told = rf"^{tmp_path / 'notebooks'}: found no 02_training.ipynb, 03_.*, expected what a run of"
    with pytest.raises(ValueError, match=told):
        commands.store_outputs(tmp_path)


def test_lab_serves_the_project_and_opens_the_notebooks_without_news(monkeypatch):
    started = []

    def run(command, env, cwd):
        (places, *_) = env["JUPYTER_CONFIG_PATH"].split(os.pathsep)
        config = Path(places) / "labconfig" / "default_setting_overrides.json"
        started.append((command, json.loads(config.read_text()), env["JUPYTER_CONFIG_PATH"]))
        return 0

    monkeypatch.setattr(checks, "run_to_its_end", run)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/somebodys/own")
    assert commands.lab() == 0
    command, settings, places = started.pop()
    assert f"--ServerApp.root_dir={commands.project_root()}" in command
    assert "--LabApp.default_url=/lab/tree/notebooks" in command
    assert settings["@jupyterlab/apputils-extension:notification"] == {"fetchNews": "false"}
    assert places.endswith(f"{os.pathsep}/somebodys/own")
    assert not {"--allow-root", "--no-browser"} & set(command)
    commands.lab(port=9000, ip="0.0.0.0", allow_root=True, no_browser=True)
    where = ["--ServerApp.port=9000", "--ServerApp.ip=0.0.0.0"]
    assert started[0][0][-4:] == [*where, "--allow-root", "--no-browser"]
    commands.lab(port=0)  # any that is free
    assert started[1][0][-1] == "--ServerApp.port=0"
