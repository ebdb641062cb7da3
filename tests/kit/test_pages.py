import gzip
import html
import json

import nbformat
import papermill
import pytest

from segcal_lite.kit import environment as setup_environment
from segcal_lite.kit import pages, published
from segcal_lite.report.verdicts import RULES, write_verdicts
from segcal_lite.runs.folders import read_table, write_json


def write_notebook(path, source):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": ""}
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# 01 A title\n\nText."),
        nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(source),
    ]
    nbformat.write(notebook, path)


@pytest.fixture
def run(tmp_path):
    """A run folder with one executed notebook, one table and one figure."""
    write_notebook(tmp_path / "01_a.ipynb", "print(seed + 1)")
    folder = tmp_path / "run"
    target = folder / "notebooks" / "01_a.ipynb"
    pages.execute_notebook(tmp_path / "01_a.ipynb", target, {"seed": 4}, "python3")
    for name in ("tables", "figures"):
        (folder / name).mkdir()
    (folder / "tables" / "calibration.csv").write_text("loss,NLL\nce,0.25 <b>\n")
    (folder / "figures" / "03_summary.png").write_bytes(b"png")
    task = {"name": "heart"}
    settings = {"task": task, "data": "phantoms", "profile": "smoke", "seed": 4}
    write_json(folder / "run.json", settings)
    write_json(folder / "provenance.json", {"commit": "abc", "date": "2026-01-01"})
    return folder


def test_an_executed_notebook_has_its_parameters_and_outputs(run):
    notebook = nbformat.read(run / "notebooks" / "01_a.ipynb", as_version=4)
    assert notebook.cells[-1].outputs[0].text == "5\n"


def test_a_failed_execution_is_left_to_be_looked_at_under_another_name(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "1 / 0")
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        pages.execute_notebook(tmp_path / "a.ipynb", tmp_path / "out" / "a.ipynb", {}, "python3")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failed-a.ipynb"]


def test_the_index_links_pages_and_shows_table_and_figures(run):
    title = pages.write_page(run / "notebooks" / "01_a.ipynb")
    index = pages.write_index(run, {"01_a": title})
    text = index.read_text()
    assert '<a href="notebooks/01_a.html">01 A title</a>' in text
    assert (run / "notebooks" / "01_a.html").exists()
    assert '<img src="figures/03_summary.png">' in text
    assert "0.25 &lt;b&gt;" in text  # escaped
    assert "commit: abc" in text


def test_the_index_says_first_what_allows_no_conclusion(run):
    write_verdicts(
        run, "02_training", {"dice members": "collapsed: seed 1: Dice 0.03", "ce members": "fine"}
    )
    poor = "; ".join(f"mean Dice 0.31 (set {number}), at least 0.5 needed" for number in range(9))
    claims = {"test cases of <i>a & b</i>": "no conclusion: 6 test cases, at least 10 needed"}
    claims["test cases of c"] = claims["test cases of <i>a & b</i>"]  # for the same reason
    claims |= {"a detector": f"no conclusion: {poor}", "threshold": "4 of 4: it does not work"}
    write_verdicts(run, "03_calibration", claims)
    text = pages.write_index(run, {}).read_text()
    assert html.escape(RULES) in text
    warned, fine = text.split("<h3>Take care</h3>")[1].split("<h3>The rest</h3>")
    assert "<td>test cases of &lt;i&gt;a &amp; b&lt;/i&gt;; test cases of c</td>" in warned
    assert warned.count("<td>6 test cases, at least 10 needed</td>") == 1
    assert "<td>seed 1: Dice 0.03</td>" in warned
    assert f"<td>{poor}</td>" in warned  # whole
    assert "<td>it does not work</td>" in warned
    assert "<td>fine</td>" in fine
    assert "<td>fine</td>" not in warned


def test_an_index_without_verdicts_says_so(run):
    text = pages.write_index(run, {}).read_text()
    assert "No notebook of this run has written a verdict." in text
    assert "Take care" not in text


def test_the_index_says_what_the_crop_cuts_away(run):
    assert "The crops hold all foreground." in pages.write_index(run, {}).read_text()
    lost = "the crop cuts away 12.5 % of <RV> on average"
    write_json(run / "prepared" / "grid.json", {"slice_axis": 2, "notes": []})
    write_json(run / "sets" / "a" / "prepared" / "grid.json", {"slice_axis": 2, "notes": [lost]})
    text = pages.write_index(run, {}).read_text()
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
    assert read_table(table).columns.tolist() == ["loss", "NLL"]


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
        folder.mkdir(exist_ok=True)
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
