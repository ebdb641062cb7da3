import gzip
import html
import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from segcal_lite.kit import environment as setup_environment
from segcal_lite.kit import index_page, pages
from segcal_lite.kit.answers import CHAPTERS, answer
from segcal_lite.kit.commands import NOTEBOOKS
from segcal_lite.kit.formulas import to_mathml
from segcal_lite.kit.results import published
from segcal_lite.report.verdicts import RULES, read_verdicts, write_verdicts
from segcal_lite.runs.folders import project_root, write_json
from segcal_lite.runs.tables import read_table, write_table

FIRST = """# 03 A title

**If a network says 0.9,
is it right?** It is $p_k$ and $$\\frac{a}{b}$$, as [01](01_b.ipynb) says.

**Out:** `tables/calibration.csv`, `tables/verdicts_03*.csv`."""
TABLE = """loss,method,"NLL, box",Dice RV,HD95 RV (mm)
ce,baseline,0.25 (0.2 to 0.3),0.8 (0.7 to 0.9),9 (8 to 10)
ce,mc_dropout,0.35 (0.3 to 0.4),<b>,9 (8 to 10)
dice,ensemble,0.15 (0.1 to 0.2) *,as baseline,9 (8 to 10)
"""
NAMES = ["01_b", "03_calibration"]


def write_notebook(path, source):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": ""}
    notebook.cells = [
        nbformat.v4.new_markdown_cell(FIRST),
        nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(source),
    ]
    nbformat.write(notebook, path)


@pytest.fixture
def run(tmp_path):
    """A run folder with one executed notebook, one table and one figure."""
    write_notebook(tmp_path / "a.ipynb", "print(seed + 1)")
    folder = tmp_path / "run"
    target = folder / "notebooks" / "03_calibration.ipynb"
    pages.execute_notebook(tmp_path / "a.ipynb", target, {"seed": 4}, "python3")
    for name in ("tables", "figures"):
        (folder / name).mkdir()
    (folder / "tables" / "calibration.csv").write_text(TABLE)
    (folder / "figures" / "03_summary.png").write_bytes(b"png")
    task = {"name": "heart"}
    settings = {"task": task, "data": "phantoms", "profile": "smoke", "seed": 4}
    write_json(folder / "run.json", settings)
    write_json(folder / "provenance.json", {"commit": "abc", "date": "2026-01-01"})
    return folder


def write_index(run):
    return index_page.write_index(run, ["03_calibration"]).read_text()


def test_an_executed_notebook_has_its_parameters_and_outputs(run):
    notebook = nbformat.read(run / "notebooks" / "03_calibration.ipynb", as_version=4)
    assert notebook.cells[-1].outputs[0].text == "5\n"


def test_an_execution_says_nothing_of_its_own(tmp_path, capfd):
    write_notebook(tmp_path / "a.ipynb", "seed")
    pages.execute_notebook(tmp_path / "a.ipynb", tmp_path / "out" / "a.ipynb", {}, "python3")
    assert capfd.readouterr() == ("", "")


def test_a_kernel_does_not_report_errors_of_its_transport(tmp_path):
    """Of a message that comes while it ends, once in hundreds of executions."""
    asked = "import logging\nlogging.getLogger('tornado.general').isEnabledFor(logging.ERROR)"
    write_notebook(tmp_path / "a.ipynb", asked)
    pages.execute_notebook(tmp_path / "a.ipynb", tmp_path / "out.ipynb", {}, "python3")
    (output,) = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs
    assert output.data["text/plain"] == "False"


def test_a_failed_execution_is_left_to_be_looked_at_under_another_name(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "seed = 0\n1 / 0")
    told = r"^a\.ipynb, cell In \[2\]: ZeroDivisionError: division by zero\n.*failed-a\.ipynb\)$"
    with pytest.raises(RuntimeError, match=told):
        pages.execute_notebook(tmp_path / "a.ipynb", tmp_path / "out" / "a.ipynb", {}, "python3")
    (failed,) = (tmp_path / "out").iterdir()
    assert failed.name == "failed-a.ipynb"
    (output,) = nbformat.read(failed, 4).cells[-1].outputs
    traceback = re.sub(r"\x1b\[[0-9;]*m", "", "".join(output.traceback))  # without colours
    assert "----> 2 1 / 0" in traceback


@pytest.mark.parametrize("name", ["{mine}", "{seed}", "{}"])
def test_braces_in_the_names_of_folders_stay(tmp_path, name):
    source, out = tmp_path / name / "a.ipynb", tmp_path / f"out {name}"
    source.parent.mkdir()
    write_notebook(source, "seed")
    pages.execute_notebook(source, out / "a.ipynb", {"seed": 3}, "python3")
    assert [path.name for path in out.iterdir()] == ["a.ipynb"]


def test_a_notebook_that_has_no_place_is_one_sentence(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "seed")
    target = tmp_path / "a.ipynb" / "notebooks" / "a.ipynb"
    with pytest.raises(ValueError, match="found no folder, and none can be made"):
        pages.execute_notebook(tmp_path / "a.ipynb", target, {}, "python3")


def test_a_page_shows_formulas_without_a_script_and_leads_to_the_others(run):
    path = run / "notebooks" / "03_calibration.ipynb"
    pages.write_page(path, NAMES)
    text = path.with_suffix(".html").read_text()
    assert "<msub><mi>p</mi><mi>k</mi></msub>" in text
    assert re.search(r'class="formula".*<mfrac><mrow><mi>a</mi>', text)
    assert "$" not in text.split("<body>")[1]
    assert "<script" not in text
    assert re.findall(r'https?://[^"\s]+', text) == ["http://www.w3.org/1998/Math/MathML"] * 2
    assert '<a href="01_b.html" title="01_b">01</a>' in text
    assert '<a aria-current="page" href="03_calibration.html"' in text
    assert '<a href="01_b.html">01</a>' in text  # of the text, to 01_b.ipynb


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_formula_of_the_notebooks_is_known(name):
    notebook = nbformat.read(project_root() / "notebooks" / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    for block, inline in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", text, re.DOTALL):
        assert "\\" not in to_mathml(block or inline), block or inline


def test_formulas_are_spaced_as_tex_does():
    assert '</mi><mspace width="0.167em" /><msub>' in to_mathml(r"\ln p_k")
    assert "mspace" not in to_mathml(r"\ln(p)")
    assert '<mo form="prefix">&#x02212;</mo>' in to_mathml("a = -b")
    assert "prefix" not in to_mathml("a - b")
    assert '<mo lspace="0" rspace="0">&#x0002F;</mo>' in to_mathml("a/b")


def test_the_index_links_pages_and_shows_table_and_figures(run):
    text = write_index(run)
    assert '<a href="notebooks/03_calibration.html">03 A title</a>' in text
    assert "If a network says 0.9, is it right?" in text
    assert '<img src="figures/03_summary.png"' in text
    assert f"<figcaption>{html.escape(CHAPTERS['03_calibration'].caption)}</figcaption>" in text
    assert '<a href="tables/calibration.csv">calibration.csv</a>' in text
    assert "&lt;b&gt;" in text  # escaped
    assert "<dt>Commit</dt><dd>abc</dd>" in text
    assert "http" not in text


def test_the_main_table_has_a_method_a_row_and_marks_the_best(run):
    main = index_page.main_table(read_table(run / "tables" / "calibration.csv"))
    assert main["columns"] == ["NLL, box", "Dice RV"]
    (_, ce), (loss, dice) = main["groups"]
    assert [method for method, _ in ce] == ["baseline", "MC dropout"]
    assert (loss, dice[0][1][0]) == ("Dice loss", ("0.15", "0.1 to 0.2", True))
    assert dice[0][1][1] == ("", "as baseline", False)
    assert not ce[0][1][0].is_best
    assert '<td class="best">0.15<small>0.1 to 0.2</small></td>' in write_index(run)
    unmarked = pd.DataFrame({"loss": ["ce"], "method": ["baseline"], "NLL": ["0.2 (0.1 to 0.3)"]})
    assert index_page.main_table(unmarked)["legend"].endswith("here none is.")


def test_answers_are_made_of_verdicts(run):
    claims = {
        "ensemble - baseline, ce, nll": "ensemble better",
        "ensemble - baseline, ce, ece": "undecided",
        "test cases": "16 cases",
    }
    write_verdicts(run, "03_calibration", claims)
    expected = (
        "The ensemble against a single network: ensemble better in 1 of 2 tests, undecided in 1."
    )
    assert answer(run, "03_calibration", read_verdicts(run)) == expected
    assert f'<p class="answer">{expected}</p>' in write_index(run)
    write_verdicts(run, "02_training", {"dice members": "none of 6 has collapsed"})
    expected = "networks trained with Dice loss: none of 6 has collapsed."
    assert answer(run, "02_training", read_verdicts(run)) == expected
    assert answer(run, "04_segment_entropy", read_verdicts(run)).startswith("No verdict")


def test_the_answer_of_preprocessing_is_what_its_table_says(run):
    rows = {"round_trip_dice": [0.9, 1, 1], "cut_off_ml": [0, 5, 5], "native_ml": [20, 20, 10]}
    write_table(run / "tables" / "preprocessing.csv", pd.DataFrame(rows))
    expected = r"Dice of 1\.000 .*lowest 0\.900.* 20\.0 % of their volume"
    assert re.search(expected, answer(run, "01_preprocessing", read_verdicts(run)))


def test_segments_that_no_label_holds_do_not_raise_what_preprocessing_keeps(run):
    held = {"round_trip_dice": [0.8, 0.9], "cut_off_ml": [0, 0], "native_ml": [20, 20]}
    absent = {"round_trip_dice": [1.0] * 7, "cut_off_ml": [0] * 7, "native_ml": [0.0] * 7}
    path, told = run / "tables" / "preprocessing.csv", "Dice of 0.850 (median of 2 segments;"
    write_table(path, pd.concat(map(pd.DataFrame, (held, absent))))
    assert told in answer(run, "01_preprocessing", read_verdicts(run))
    write_table(path, pd.DataFrame(absent))
    expected = "No label of its test cases holds a segment."
    assert answer(run, "01_preprocessing", read_verdicts(run)) == expected


@pytest.mark.parametrize("name", NOTEBOOKS[1:])
def test_the_claims_of_the_answers_are_those_that_notebooks_write(name):
    table = read_table(project_root() / "results" / "smoke" / f"verdicts_{name}.csv").fillna("")
    for words, common in CHAPTERS[name].claims.items():
        assert table.claim.str.contains(rf"\b{re.escape(common)}").any(), words


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_writes_the_figure_that_the_report_shows(name):
    source = (project_root() / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    assert CHAPTERS[name].figure in source


def test_the_index_says_first_what_allows_no_conclusion(run):
    write_verdicts(
        run, "02_training", {"dice members": "collapsed: seed 1: Dice 0.03", "ce members": "fine"}
    )
    poor = "; ".join(f"mean Dice 0.31 (set {number}), at least 0.5 needed" for number in range(9))
    claims = {"test cases of <i>a & b</i>": "no conclusion: 6 test cases, at least 10 needed"}
    claims["test cases of c"] = claims["test cases of <i>a & b</i>"]  # for the same reason
    claims |= {"a detector": f"no conclusion: {poor}", "threshold": "4 of 4: it does not work"}
    write_verdicts(run, "03_calibration", claims)
    text = write_index(run)
    assert html.escape(RULES).replace("&#x27;", "&#39;") in text
    warned, fine = text.split("<h3>Take care</h3>")[1].split("<h3>The rest</h3>")
    assert "<td>test cases of &lt;i&gt;a &amp; b&lt;/i&gt;; test cases of c</td>" in warned
    assert warned.count("<td>6 test cases, at least 10 needed</td>") == 1
    assert "<td>seed 1: Dice 0.03</td>" in warned
    assert f"<td>{poor}</td>" in warned  # whole
    assert "<td>it does not work</td>" in warned
    assert "<td>fine</td>" in fine
    assert "<td>fine</td>" not in warned


def test_an_index_without_verdicts_says_so(run):
    text = write_index(run)
    assert "No notebook of this run has written a verdict." in text
    assert "Take care" not in text


def test_the_index_says_what_the_crop_cuts_away(run):
    assert "The crops hold all foreground." in write_index(run)
    lost = "the crop cuts away 12.5 % of <RV> on average"
    write_json(run / "prepared" / "grid.json", {"slice_axis": 2, "notes": []})
    write_json(run / "sets" / "a" / "prepared" / "grid.json", {"slice_axis": 2, "notes": [lost]})
    text = write_index(run)
    assert f"<li>sets/a: {html.escape(lost)}</li>" in text
    assert "what a crop cut away counts as missed" in text


def test_results_carry_their_provenance(run, monkeypatch, tmp_path):
    monkeypatch.setattr(published, "project_root", lambda: tmp_path)
    written = published.publish(run, "heart")
    assert sorted(path.name for path in written) == ["03_summary.png", "calibration.csv"]
    record = json.loads((tmp_path / "results" / "heart" / "provenance.json").read_text())
    assert (record["commit"], record["seed"]) == ("abc", 4)


def test_a_long_table_is_compressed_to_the_same_bytes(run, monkeypatch, tmp_path):
    monkeypatch.setattr(published, "project_root", lambda: tmp_path)
    monkeypatch.setattr(published, "LARGEST_TABLE", 5)
    once, again = (published.publish(run, "heart")[0].read_bytes() for _ in range(2))
    assert once == again
    assert gzip.decompress(once) == (run / "tables" / "calibration.csv").read_bytes()
    table = tmp_path / "results" / "heart" / "calibration.csv.gz"
    assert read_table(table).columns.tolist()[:3] == ["loss", "method", "NLL, box"]


def test_pages_and_tables_name_later_devices(run):
    record = json.loads((run / "provenance.json").read_text()) | {"later_devices": ["an H200"]}
    write_json(run / "provenance.json", record)
    assert re.search(r"Gone on with.{0,40}an H200", write_index(run), re.DOTALL)
    made = {"seed": 0, "profile": "laptop", "commit": "a", "date": "d", "device": "cpu"}
    write_json(run / "provenance.json", made | {"processor": "X", "later_devices": ["an H200"]})
    assert published.source_of(run).endswith(", d, X, then an H200.")


@pytest.mark.parametrize("name", ["", ".", "..", "../precious", "a/b", ".git", "papers"])
def test_only_what_was_published_is_replaced(run, monkeypatch, tmp_path, name):
    monkeypatch.setattr(published, "project_root", lambda: tmp_path)
    kept = [tmp_path / "results" / "papers" / "a.csv", tmp_path / "precious" / "b.csv"]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    with pytest.raises(ValueError, match="NAME: found|papers: found no provenance.json"):
        published.publish(run, name)
    assert all(path.read_text() == "mine" for path in kept)
    assert sorted((tmp_path / "results").iterdir()) == [tmp_path / "results" / "papers"]


def test_what_is_published_again_replaces_all_of_it(run, monkeypatch, tmp_path):
    monkeypatch.setattr(published, "project_root", lambda: tmp_path)
    published.publish(run, "heart")
    old = tmp_path / "results" / "heart" / "old.csv"
    old.write_text("of an earlier run")
    published.publish(run, "heart")
    assert not old.exists() and [p.name for p in old.parent.parent.iterdir()] == ["heart"]


def test_what_was_published_before_is_kept_until_the_new_has_its_name(run, monkeypatch, tmp_path):
    monkeypatch.setattr(published, "project_root", lambda: tmp_path)
    published.publish(run, "heart")
    target, rename = tmp_path / "results" / "heart", Path.rename
    files = {path.name: path.read_bytes() for path in target.iterdir()}

    def killed(path, to):
        if to == target:
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", killed)
        published.publish(run, "heart")
    before = target.with_name(".heart.old")
    assert {path.name: path.read_bytes() for path in before.iterdir()} == files
    published.publish(run, "heart")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == files
    assert list(target.parent.iterdir()) == [target]


def test_what_was_published_of_another_kind_of_run_stays(run, monkeypatch, tmp_path):
    monkeypatch.setattr(published, "project_root", lambda: tmp_path)
    published.publish(run, "heart")
    before = {path: path.read_bytes() for path in (tmp_path / "results" / "heart").iterdir()}
    own = tmp_path / "own"
    write_json(own / "evaluation.json", {"labels": "labelsTr", "n_bins": 10})
    write_json(own / "provenance.json", {"commit": "abc"})
    (own / "tables").mkdir()
    (own / "tables" / "scores.csv").write_text("case\na\n")
    with pytest.raises(ValueError, match="heart: found what was published of another kind of run"):
        published.publish(own, "heart")
    assert {path: path.read_bytes() for path in before} == before
    published.publish(own, "mine")
    published.publish(own, "mine")
    record = json.loads((tmp_path / "results" / "mine" / "provenance.json").read_text())
    assert record == {"commit": "abc", "evaluation": {"labels": "labelsTr", "n_bins": 10}}


def test_a_run_without_tables_is_not_published(tmp_path):
    with pytest.raises(ValueError, match="no tables or figures"):
        published.publish(tmp_path, "heart")


def test_an_environment_that_holds_the_package_is_taken_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_environment, "ROOT", tmp_path)
    monkeypatch.setattr(setup_environment, "_is_installed", lambda: True)
    assert str(setup_environment.ensure_environment()) == setup_environment.sys.executable


def test_the_own_environment_is_filled_once_until_the_pins_change(monkeypatch, tmp_path):
    calls = []

    def install(folder, python, extras):
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        (folder / "pyvenv.cfg").write_text("version = 3.12.1\n")
        calls.append(extras)

    monkeypatch.setattr(setup_environment, "ROOT", tmp_path)
    monkeypatch.setattr(setup_environment, "_is_installed", lambda: False)
    monkeypatch.setattr(setup_environment, "_install", install)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("1")
    for _ in range(2):
        python = setup_environment.ensure_environment(("test",))
    assert calls == [("test",)]
    assert python.is_relative_to(tmp_path / ".venv")
    (tmp_path / "constraints.txt").write_text("2")
    setup_environment.ensure_environment(("test",))
    assert len(calls) == 2
