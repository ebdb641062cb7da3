"""The pages that people read first: links, commands, equations and generated tables hold."""

import ast
import importlib
import inspect
import re
import shlex
import shutil
import sys
import tomllib
from importlib.util import find_spec

import nbformat
import pytest
import yaml

from segcal_lite import __main__
from segcal_lite.kit import checks, commands
from segcal_lite.kit.results.published import fill_readme
from segcal_lite.kit.results.readme_tables import TABLES, fill_readmes
from segcal_lite.runs.folders import project_root

ROOT = project_root()
PAGES = ["README.md", "CONTRIBUTING.md", "segcal_lite/README.md", "data_scripts/README.md"]
PAGES += ["results/README.md", "results/papers/README.md", "segcal_lite/runs/CLUSTER.md"]
WITH_COMMANDS = ["README.md", "data_scripts/README.md", "results/README.md", PAGES[-1]]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}


def test_the_readmes_tables_are_what_results_say(tmp_path):
    (tmp_path / "results").mkdir()
    for name in TABLES:
        shutil.copy(ROOT / name, tmp_path / name)
    assert fill_readmes(tmp_path) == [tmp_path / name for name in TABLES]
    for name in TABLES:
        assert (tmp_path / name).read_text(encoding="utf-8") == TEXTS[name]


def test_a_readme_without_the_place_of_a_table_is_an_error_and_stays_as_it_is(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n")
    with pytest.raises(ValueError, match="no line '<!-- table ledger -->'"):
        fill_readme(readme, TABLES["results/README.md"])
    assert readme.read_text() == "# Title\n"


@pytest.mark.parametrize("text", ["old\n", "old\n<!-- table two -->\nold\n<!-- end -->\n"])
def test_a_table_without_an_end_is_an_error_and_what_follows_it_stays(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(f"<!-- table one -->\n{text}what people wrote\n")
    with pytest.raises(ValueError, match="no line '<!-- end -->' behind '<!-- table one -->'"):
        fill_readme(readme, {"one": lambda: "new\n"})
    assert readme.read_text() == f"<!-- table one -->\n{text}what people wrote\n"


def test_every_place_of_a_table_is_filled():
    for name, tables in TABLES.items():
        assert sorted(re.findall("<!-- table (.*) -->", TEXTS[name])) == sorted(tables)
        assert TEXTS[name].count("<!-- end -->") == len(tables)


def test_what_people_wrote_around_a_table_stays(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- table one -->\nold\n<!-- end -->\nb\n<!-- end -->\n")
    fill_readme(readme, {"one": lambda: "new\n"})
    assert readme.read_text() == "a\n<!-- table one -->\nnew\n<!-- end -->\nb\n<!-- end -->\n"


def test_the_readme_is_one_page():
    assert len(TEXTS["README.md"].splitlines()) <= 130


def without_code_blocks(text):
    return re.sub("```.*?```", "", text, flags=re.DOTALL)


def anchors(text):
    """Anchors of a page's headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", without_code_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def equation_rows():
    """Functions, file and source of each row of the table of equations."""
    table = TEXTS["segcal_lite/README.md"].partition("| metric or loss |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        _, functions, file, source = (cell.strip() for cell in line.strip("|").split(" | "))
        yield re.findall(r"`(\w+)`", functions), re.search(r"\((.+)\.py\)", file)[1], source


def test_every_function_of_the_table_of_equations_is_defined_where_it_says():
    for functions, path, _ in equation_rows():
        module = importlib.import_module(f"segcal_lite.{path.replace('/', '.')}")
        assert functions, path
        for function in functions:
            assert getattr(module, function).__module__ == module.__name__, function


def test_every_numbered_equation_has_a_row():
    sources = [source for _, _, source in equation_rows()]
    for number in range(1, 8):
        assert f"A, Eq. {number}" in sources
    assert "B, Eqs. 1 and 2" in sources


def test_the_map_names_every_chapter_and_room():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = " | ".join(config["contracts"][0]["layers"]).split(" | ")
    text = TEXTS["README.md"].partition("## Map")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)/?`", row.split(" | ")[0])]
    assert sorted(named) == sorted(name for name in layers if not name.startswith("_"))


def commands_in(text):
    """Command lines of a page, in code blocks and in running text, split into words."""
    blocks = re.findall("```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    running_text = re.findall("`([^`]+)`", without_code_blocks(text))
    lines += [" ".join(code.split()) for code in running_text]
    starts = ("python ", "make ", "papermill ")
    for line in lines:
        words = shlex.split(line, comments=True) if any(start in line for start in starts) else []
        while words and "=" in words[0]:  # a variable of the environment
            words.pop(0)
        if words and f"{words[0]} " in starts:
            yield words


def declared(notebook):
    """Names of a notebook's parameters."""
    cells = nbformat.read(notebook, as_version=4).cells
    source = next(cell.source for cell in cells if cell.cell_type == "code")
    return {statement.targets[0].id for statement in ast.parse(source).body}


def check_papermill(words):
    """The notebook is there, and has the parameters that are given."""
    given, options = set(), words[3:]
    while options:
        option = options.pop(0)
        if option == "-p":
            given.add(options.pop(0))
            options.pop(0)
        else:
            assert option in ("-y", "-f")
            value = options.pop(0)
            given |= set(yaml.safe_load(value if option == "-y" else (ROOT / value).read_text()))
    assert given and given <= declared(ROOT / words[1])


@pytest.fixture
def run_command(monkeypatch):
    """Run a command line up to the function that takes its options, and not further."""
    monkeypatch.setattr(__main__, "ensure_environment", lambda extras: sys.executable)

    def run(words):
        name = words[0].replace("-", "_")
        room = checks if hasattr(checks, name) else commands
        signature = inspect.signature(getattr(room, name))
        with monkeypatch.context() as patch:
            patch.setattr(room, name, lambda **options: signature.bind(**options))
            for kind in ("source", "source_or_phantoms"):
                patch.setattr(__main__, kind, str)  # the reader's own data are not here
            return __main__.main(words)

    return run


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_command_is_one(name, run_command):
    targets = re.findall(r"^(\S+):\n", (ROOT / "Makefile").read_text(), re.MULTILINE)
    found = list(commands_in(TEXTS[name]))
    assert len(found) >= 4
    for words in found:
        if words[0] == "make":
            assert words[1] in targets, words
        elif words[0] == "papermill":
            check_papermill(words)
        elif words[1:3] == ["-m", "segcal_lite"]:
            assert words[3:] == [] or run_command(words[3:])
        elif words[1] == "-m":
            assert words[2].endswith("NAME") or find_spec(words[2]), words
        else:
            assert (ROOT / words[1]).is_file(), words
