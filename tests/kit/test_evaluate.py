"""The command that judges somebody's predictions, from its arguments to its page."""

import json

import numpy as np
import pytest
from own_predictions import write_study

from segcal_lite import __main__ as command_line
from segcal_lite.experiments.own_model import write_signatures
from segcal_lite.kit import commands


def arguments(given, out):
    """The command line of a study."""
    line = ["evaluate", "--labels", given["labels"], "--predictions", *given["predictions"]]
    line += ["--images", *given["images"], "--out", out, "--workers", 1]
    line += ["--new", *given["new"]] if given["new"] else []
    return [str(word) for word in line]


def run(line):
    """Run the command in this process; return its exit status."""
    options = vars(command_line._parser().parse_args(line))
    assert options.pop("command") == "evaluate"
    return commands.evaluate(**options)


def test_the_command_leaves_a_page_with_pictures_of_new_cases(tmp_path, capsys):
    line = arguments(write_study(tmp_path, n_cases=3, n_members=2, n_new=1), tmp_path / "out")
    for name, n_cases in (("training", 9), ("cases", 4)):
        signatures = {f"case_{k:03}": [np.cos(k), np.sin(k)] for k in range(n_cases)}
        write_signatures(tmp_path / f"{name}.csv", signatures, "last")
    line += ["--signatures", *(str(tmp_path / f"{name}.csv") for name in ("training", "cases"))]
    assert run([*line, "--write-corrected"]) == 0
    assert (tmp_path / "out" / "probabilities" / "temperature" / "case_003.nii.gz").exists()
    assert (tmp_path / "out" / "figures" / "oodm.png").exists()
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert capsys.readouterr().out.endswith(f"done: open {tmp_path / 'out' / 'index.html'}\n")
    assert "case_003" in page and "http-equiv" not in page and 'src="http' not in page
    assert (tmp_path / "out" / "figures" / "review_1.png").exists()
    assert json.loads((tmp_path / "out" / "command.json").read_text())["command"]
    assert "4 cases (case_000, case_001, case_002, case_003) is a training" in page
    assert "at least 10 needed" in page  # three cases allow no conclusion


def test_an_output_of_another_evaluation_is_refused_in_one_sentence(tmp_path):
    given = write_study(tmp_path, n_cases=1, n_members=1)
    assert run(arguments(given, tmp_path / "out")) == 0
    with pytest.raises(ValueError, match="box_mm = 8.0 .now 5.0., expected the settings"):
        run([*arguments(given, tmp_path / "out"), "--box-mm", "5"])


def test_the_same_evaluation_goes_on_from_another_current_folder(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    given = write_study(tmp_path, n_cases=1, n_members=1)
    assert run(arguments(given, tmp_path / "out")) == 0
    before = (tmp_path / "out" / "evaluation.json").read_text()
    monkeypatch.chdir(tmp_path / "sub")
    line = arguments(given, tmp_path / "out")
    assert run([word.replace(str(tmp_path), "..") for word in line]) == 0
    assert (tmp_path / "out" / "evaluation.json").read_text() == before


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--predictions", "nowhere", "found no file or folder"),
        ("--members-averaged", "votes", "invalid choice: 'votes'"),
        ("--regions", "rim", "invalid choice: 'rim'"),
        ("--write-corrected", "oracle", "invalid choice: 'oracle'"),
        ("--signatures", "one.csv", "expected 2 arguments"),
        ("--n-bins", "ten", "invalid int value: 'ten'"),
    ],
)
def test_a_wrong_argument_ends_before_anything_is_written(tmp_path, capsys, option, value, told):
    line = arguments(write_study(tmp_path, n_cases=1, n_members=1), tmp_path / "out")
    with pytest.raises(SystemExit):
        run([*line, option, value])
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()
