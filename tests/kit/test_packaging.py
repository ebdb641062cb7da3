"""pyproject.toml, constraints.txt, environment.yml and Makefile say the same."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from segcal_lite import __version__
from segcal_lite.runs.folders import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in sum(EXTRAS.values(), PROJECT["dependencies"])]


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalised(name): Version(version) for name, version in pairs}


def test_every_direct_dependency_is_pinned_to_a_version_it_admits(pins):
    for requirement in DIRECT:
        assert requirement.specifier.contains(pins[normalised(requirement.name)]), requirement


def test_torch_is_pinned_and_older_ones_are_admitted(pins):
    assert pins["torch"] == Version("2.13.0")
    torch = next(requirement for requirement in DIRECT if requirement.name == "torch")
    assert torch.specifier.contains("2.8.0")
    assert not torch.specifier.contains("2.7.1")


def test_conda_and_binder_get_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, by_pip = environment["dependencies"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert python == "python=3.11"
    assert pip == "pip"
    assert by_pip == {"pip": ["-c constraints.txt", "-e .[data,test]"]}


def test_every_dependency_says_why_it_is_there():
    text = (ROOT / "pyproject.toml").read_text()
    for requirement in DIRECT:
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line)
        comment = re.search(r"#\s*\w+", line)
        assert comment or requirement.name in ("pytest",), line


def test_one_version():
    assert PROJECT["version"] == __version__


def test_make_targets_are_one_line_over_the_module():
    targets = re.findall(r"^(\S+):\n\t(.+)\n", (ROOT / "Makefile").read_text(), re.MULTILINE)
    needed = {"demo", "test", "test-real", "test-slow", "test-nnunet", "lab"}
    assert {name for name, _ in targets} >= needed
    for name, line in targets:
        assert line.startswith(f"$(PYTHON) -m segcal_lite {name}")


def test_what_pages_are_made_of_is_packaged():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert tool["package-data"] == {"segcal_lite.kit": ["web/*"]}
    names = {path.name for path in (ROOT / "segcal_lite" / "kit" / "web").iterdir()}
    assert names == {
        "OFL.txt",
        "STIXTwoMath.woff2",
        "index.html.j2",
        "notebook.html.j2",
        "own_model.html.j2",
        "page.html.j2",
        "parts.html.j2",
        "style.css",
    }


def test_ci_skips_no_slow_test():
    steps = (ROOT / ".ci" / "run").read_text()
    assert "SEGCAL_SKIP_NOTHING=1 make test-slow" in steps
    assert "apt-get install -y chromium" in steps


def test_ci_trains_a_real_nnunet_where_real_volumes_are():
    _, with_volumes = (ROOT / ".ci" / "run").read_text().split("if [ -d ../shared/data ]")
    assert "test-nnunet" in with_volumes
    is_left_out = '"not real and not slow and not nnunet"'
    assert is_left_out in (ROOT / "segcal_lite" / "kit" / "checks.py").read_text()
