"""The notebooks as files: anatomy, stored outputs, exercises. nbval executes them."""

import ast
import pkgutil
import re
from fnmatch import fnmatch
from itertools import pairwise

import nbformat
import papermill
import pytest
import yaml

from segcal_lite.kit import commands
from segcal_lite.kit.commands import NOTEBOOKS
from segcal_lite.kit.notebook_sources import exercises, store_outputs, tags, write_copies
from segcal_lite.runs.folders import project_root

FOLDER = project_root() / "notebooks"
SOURCES = {path.stem: nbformat.read(path, as_version=4) for path in sorted(FOLDER.glob("*.ipynb"))}
OTHERS = ["profile", "out", "seed", "device", "scheduler", "leave_out"]
SET_UP = 25  # most lines of a cell that holds parameters or imports, or opens the run
COMMON = ["data", "task", *OTHERS, "n_epochs", "n_members"]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def sets_up(cell):
    """Whether a cell holds the parameters or the imports, or opens the run."""
    if "parameters" in tags(cell):
        return True
    return bool(re.search(r"\bopen_(joint_)?experiment\(|use_style\(\)", cell.source))


def test_the_runner_knows_every_notebook():
    assert list(SOURCES) == list(NOTEBOOKS)


def declared(name):
    """Names of a notebook's parameters, in order."""
    return [line.targets[0].id for line in ast.parse(code_cells(SOURCES[name])[0].source).body]


@pytest.mark.parametrize("path", sorted((FOLDER / "params").glob("*.yaml")), ids=lambda p: p.stem)
def test_files_of_parameters_fit_the_notebooks_they_are_for(path):
    given = yaml.safe_load(path.read_text())
    other = {
        "three_organs_joint": "07_joint_training",
        "three_organs_unseen": "08_ood_volumes",
        "near_shifts": "08_ood_volumes",
        "left_ventricle_unseen": "08_ood_volumes",
        "healthy_hearts_unseen": "08_ood_volumes",
        "hippocampus_volumes": "06_volumetric",
    }
    names = [other[path.stem]] if path.stem in other else NOTEBOOKS[:5]
    for name in names:
        assert set(given) <= set(declared(name))


@pytest.mark.parametrize("name", NOTEBOOKS)
class TestNotebook:
    def test_parameters_are_literals_and_the_guard_follows(self, name):
        cells = code_cells(SOURCES[name])
        assert tags(cells[0]) == ["parameters"]
        assignments = ast.parse(cells[0].source).body
        names = [statement.targets[0].id for statement in assignments]
        if name in commands.OTHER_DATA:
            assert names[0] == commands.OTHER_DATA[name]
            assert [given for given in names if given in OTHERS] == OTHERS
        else:
            assert names[: len(COMMON)] == COMMON
        values = {s.targets[0].id: ast.literal_eval(s.value) for s in assignments}
        assert values.get("task") is None  # data say themselves what they show
        assert values["leave_out"] is None
        assert "check_parameters(In, globals())" in cells[1].source

    def test_every_checked_cell_stores_an_output(self, name):
        """nbval passes a checked cell without one."""
        checked = [c for c in code_cells(SOURCES[name]) if "nbval-check-output" in tags(c)]
        assert len(checked) >= 3
        for cell in checked:
            assert cell.outputs, cell.source
            assert cell.execution_count is not None

    def test_other_cells_are_stripped_and_none_stores_an_error(self, name):
        for cell in code_cells(SOURCES[name]):
            if not {"nbval-check-output", "keep-output"} & set(tags(cell)):
                assert not cell.outputs, cell.source
            assert all(output.output_type != "error" for output in cell.outputs)

    def test_code_cells_are_short(self, name):
        for cell in code_cells(SOURCES[name]):
            lines = [line for line in cell.source.splitlines() if line.strip()]
            limit = SET_UP if sets_up(cell) else 15
            assert len(lines) <= limit, f"{len(lines)} lines: {lines[0]}"

    def test_files_and_modules_that_it_names_are_there(self, name):
        text = "\n".join(cell.source for cell in SOURCES[name].cells)
        for path in re.findall(r"\b(?:segcal_lite|results|tests|notebooks)/[\w/]+\.\w+", text):
            assert (project_root() / path).exists(), path
        for module in re.findall(r"\bsegcal_lite(?:\.\w+)+", text):
            pkgutil.resolve_name(module)

    def test_the_first_cell_names_every_table(self, name):
        first, *others = SOURCES[name].cells
        named = re.findall(r"`tables/([\w*]+\.csv)`", first.source)
        written = [re.findall(r'"tables" / "(\w+\.csv)"', cell.source) for cell in others]
        for table in sum(written, []):
            assert any(fnmatch(table, pattern) for pattern in named), table

    def test_no_machines_path_and_no_network(self, name):
        text = "".join(cell.source for cell in SOURCES[name].cells)
        assert not re.search(r"[\"' ]/\w+/", text)  # no absolute path
        for forbidden in ("http.client", "requests", "urllib"):
            assert forbidden not in text

    def test_stubs_fail_and_solutions_pass(self, name):
        found = exercises(SOURCES[name])
        assert len(found) >= 2
        for stub, solution, check in found:
            with pytest.raises(NotImplementedError):
                exec(f"{stub}\n{check}", {})
            exec(f"{stub}\n{solution}\n{check}", {})


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("01_preprocessing", "whole[0] = 1.0", "whole[0] = 0.0"),
        ("02_training", "/ class_weights", "* class_weights"),
        ("03_calibration", "max(\n", "sum(\n"),
        ("03_calibration", "logits / temperature", "logits * temperature"),
        ("03_calibration", "logits / temperature, axis=0", "logits / temperature"),
        ("04_segment_entropy", "np.median(", "np.mean("),
        ("06_volumetric", "math.ceil(", "math.floor("),
        ("07_joint_training", "if loss < best", "if loss <= best"),
        ("09_your_own_model", "predicted.transpose(order)", "predicted.transpose(order[::-1])"),
        ("09_your_own_model", "probs ** (1 / temperature)", "probs ** temperature"),
        ("09_your_own_model", "np.argsort(scores)", "np.argsort(risks)"),
    ],
)
def test_a_wrong_answer_fails_the_check(name, right, wrong):
    found = [parts for parts in exercises(SOURCES[name]) if right in parts[1]]
    (stub, solution, check), *others = found
    assert not others
    with pytest.raises((AssertionError, ValueError)):
        exec(f"{stub}\n{solution.replace(right, wrong)}\n{check}", {})


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_unknown_parameter_ends_in_one_sentence(name, tmp_path):
    """Plain papermill only warns: the guard refuses before anything is made."""
    source = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    at = next(
        i for i, cell in enumerate(source.cells) if "check_parameters(In, globals())" in cell.source
    )
    source.cells = source.cells[: at + 1]
    nbformat.write(source, tmp_path / "head.ipynb")
    with pytest.raises(papermill.PapermillExecutionError, match="parameter 'epochs': found"):
        papermill.execute_notebook(
            tmp_path / "head.ipynb",
            tmp_path / "out.ipynb",
            parameters={"epochs": 3},
            kernel_name="python3",
            progress_bar=False,
        )


@pytest.mark.parametrize("name, following", list(pairwise(NOTEBOOKS)))
def test_each_notebook_leads_to_the_next(name, following):
    assert f"**Next**: `{following}`" in SOURCES[name].cells[-1].source


def test_copies_for_students_lack_the_solutions_only(tmp_path):
    written = write_copies(FOLDER, tmp_path)
    assert len(written) == 2 * len(SOURCES)
    for name, source in SOURCES.items():
        student = nbformat.read(tmp_path / "student" / f"{name}.ipynb", as_version=4)
        instructor = nbformat.read(tmp_path / "instructor" / f"{name}.ipynb", as_version=4)
        assert instructor.cells == source.cells
        kept = [cell for cell in source.cells if "solution" not in tags(cell)]
        assert [cell.source for cell in student.cells] == [cell.source for cell in kept]
        assert len(student.cells) < len(source.cells)


def notebook_of(*cells):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": ""}
    for source, tag in cells:
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata["tags"] = [tag] if tag else []
        notebook.cells.append(cell)
    return notebook


def test_exercises_out_of_turn_are_refused():
    with pytest.raises(ValueError, match="exercise cells: found"):
        exercises(notebook_of(("a", "exercise"), ("b", "check")))


def test_outputs_are_stored_for_checked_cells_only(tmp_path):
    cells = [("x = 1", "parameters"), ("print(x)", ""), ("print(2)", "nbval-check-output")]
    source, executed = tmp_path / "source.ipynb", tmp_path / "executed.ipynb"
    nbformat.write(notebook_of(*cells), source)
    papermill.execute_notebook(
        source, executed, {"x": 5}, kernel_name="python3", progress_bar=False
    )
    store_outputs(source, executed)
    stored = nbformat.read(source, as_version=4)
    assert [len(cell.outputs) for cell in stored.cells] == [0, 0, 1]
    assert stored.cells[2].outputs[0].text == "2\n"
    assert [cell.execution_count for cell in stored.cells] == [1, 2, 3]


def test_a_text_that_came_in_pieces_is_stored_as_one(tmp_path):
    source = tmp_path / "source.ipynb"
    notebook = notebook_of(("print(1)", "nbval-check-output"))
    pieces = (("stdout", "1"), ("stdout", "\n"), ("stderr", "a"), ("stdout", "2"))
    notebook.cells[0].outputs = [
        nbformat.v4.new_output("stream", name=name, text=text) for name, text in pieces
    ]
    nbformat.write(notebook, source)
    store_outputs(source, source)
    stored = nbformat.read(source, as_version=4).cells[0].outputs
    assert [(o.name, o.text) for o in stored] == [
        ("stdout", "1\n"),
        ("stderr", "a"),
        ("stdout", "2"),
    ]


def test_a_checked_cell_without_output_is_refused(tmp_path):
    source = tmp_path / "source.ipynb"
    nbformat.write(notebook_of(("x = 1", "nbval-check-output")), source)
    with pytest.raises(ValueError, match="no output to check"):
        store_outputs(source, source)


def test_outputs_of_other_code_are_refused(tmp_path):
    for name, code in (("a", "x = 1"), ("b", "x = 2")):
        nbformat.write(notebook_of((code, "")), tmp_path / name)
    with pytest.raises(ValueError, match="other code"):
        store_outputs(tmp_path / "a", tmp_path / "b")
