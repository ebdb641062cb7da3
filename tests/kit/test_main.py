"""The command line before and around its commands: arguments, one sentence, Ctrl-C."""

import ast
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from segcal_lite import __main__
from segcal_lite.kit import commands, environment
from segcal_lite.runs.folders import project_root

ROOT = project_root()
BEFORE_INSTALLATION = ("__init__", "__main__", "kit/__init__", "kit/arguments", "kit/environment")


@pytest.fixture
def called(monkeypatch, tmp_path):
    """Run a command line from a folder of its own; return the options that a command gets."""
    options = {}
    names = ("demo", "hippocampus", "publish", "copies", "story", "store_outputs", "lab")
    for name in (*names, "evaluate", "claims"):
        monkeypatch.setattr(commands, name, lambda **given: options.update(given) or 0)
    monkeypatch.setattr(__main__, "ensure_environment", lambda extras: sys.executable)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        options.clear()
        assert __main__.main(list(arguments)) == 0
        return options

    return run


def test_relative_paths_start_from_the_current_folder(called, tmp_path):
    (tmp_path / "a").mkdir()
    options = called("demo", "--data", "a", "--volumes", "./a", "--sets", "../", "--out", "b/c")
    assert Path(options["data"]) == Path(options["volumes"]) == tmp_path / "a"
    assert Path(options["sets"]).samefile(tmp_path.parent)
    assert Path(options["out"]) == tmp_path / "b" / "c"
    assert Path(called("publish", "a", "name")["run"]) == tmp_path / "a"
    for command in ("copies", "store-outputs"):
        assert Path(called(command, "--out", "b")["out"]) == tmp_path / "b"
    assert Path(called("story", "--seeds", "1", "--out", "b")["out"]) == tmp_path / "b"
    given = called("hippocampus", "--source", "s", "--data", "d", "--out", "o")
    assert [Path(given[key]).parent for key in ("source", "data", "out")] == [tmp_path] * 3


def test_defaults_start_from_the_project_root_and_phantoms_are_no_folder(called, tmp_path):
    (tmp_path / "phantoms").mkdir()
    options = called("demo", "--sets", "phantoms")
    assert options["data"] == options["sets"] == "phantoms"
    assert options["out"] == Path("runs/demo")
    assert Path(called("demo", "--data", "./phantoms")["data"]) == tmp_path / "phantoms"


def test_a_folder_called_phantoms_is_one_for_all_but_the_demo(called, tmp_path):
    (tmp_path / "phantoms").mkdir()
    folder = str(tmp_path / "phantoms")
    words = "labels", "predictions", "images", "new", "dataset", "patients"
    options = called("evaluate", *(w for word in words for w in (f"--{word}", "phantoms")))
    assert [options[w] for w in words] == [folder, [folder], [folder], [folder], folder, folder]
    assert called("claims", "phantoms")["runs"] == [folder]
    assert called("publish", "phantoms", "name")["run"] == folder


def test_a_place_has_one_name_from_wherever_it_is_given(called, monkeypatch, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "data").mkdir()
    there = called("demo", "--data", "data", "--out", "out")
    expected = {name: there[name] for name in ("data", "out")}
    (tmp_path / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    assert called("demo", "--data", "link")["data"] == str(tmp_path / "link")
    monkeypatch.chdir(tmp_path / "sub")
    given = called("demo", "--data", "../data", "--out", "../out")
    assert {name: given[name] for name in ("data", "out")} == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--data", "nowhere"], "argument --data: found no file or folder "),
        (["demo", "--sets", "nowhere.yaml"], "argument --sets: found no file or folder "),
        (["demo", "--volumes", ""], "argument --volumes: found nothing, expected a path"),
        (["demo", "--profile", "quick"], "argument --profile: invalid choice: 'quick'"),
        (["hippocampus", "--profile", "paper"], "argument --profile: invalid choice: 'paper'"),
        (["demo", "--seed", "-1"], "argument --seed: found '-1', expected an integer of at least"),
        (["demo", "--seed", "1.5"], "argument --seed: found '1.5', expected an integer"),
        (["story", "--seeds", "1", "x"], "argument --seeds: found 'x', expected an integer"),
        (["demo", "--out", "~nobody-here/x"], "argument --out: found '~nobody-here/x', expected a"),
        (["demo", "--out", "M\udcfcnchen"], "M\\udcfcnchen', expected a path in UTF-8: rename it"),
        (["claims", "phantoms"], "argument RUN: found no file or folder "),
        (["publish", "nowhere", "name"], "argument run: found no file or folder "),
        (["lab", "--port", "x"], "argument --port: "),
    ],
)
def test_a_wrong_argument_is_one_sentence_before_anything_is_set_up(
    arguments, said, called, monkeypatch, capsys
):
    def set_up(extras):
        pytest.fail("the environment was set up")

    monkeypatch.setattr(__main__, "ensure_environment", set_up)
    with pytest.raises(SystemExit):
        __main__.main(arguments)
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_what_goes_wrong_is_a_sentence_and_its_traceback_a_file(capsys):
    def action():
        raise ValueError("seed: found 1.5, expected an integer.")

    assert __main__.said_in_one_sentence(action) == 1
    sentence, where = capsys.readouterr().err.splitlines()
    assert sentence == "seed: found 1.5, expected an integer."
    file = Path(where.removeprefix("(traceback: ").removesuffix(")"))
    assert "in action" in file.read_text()
    file.unlink()


def test_what_the_disk_does_not_take_is_a_sentence_also_where_the_traceback_goes(
    capsys, monkeypatch
):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device", "run.json")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", fail)
    assert __main__.said_in_one_sentence(fail) == 1
    assert capsys.readouterr().err == "run.json: No space left on device\n"


def test_letters_that_a_terminal_lacks_are_escaped(monkeypatch):
    written = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", written)
    assert __main__.said_in_one_sentence(lambda: print("\u5fc3\u81df: 6 cases") or 0) == 0
    written.flush()
    assert written.buffer.getvalue().startswith(rb"\u5fc3\u81df: 6 cases")


def test_ctrl_c_is_one_sentence(capsys):
    def action():
        raise KeyboardInterrupt

    assert __main__.said_in_one_sentence(action) == 130
    assert capsys.readouterr().err == f"\n{__main__.STOPPED}\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_a_command_ends_itself_on_ctrl_c(tmp_path):
    """It has more than the quarter of a second that `subprocess.run` would leave it."""
    child = "import time\ntry:\n    print('ready', flush=True); time.sleep(60)\n"
    child += "except KeyboardInterrupt:\n    time.sleep(1); print('ended')\n"
    parent = "import sys\nfrom segcal_lite.kit.environment import run_to_its_end\n"
    parent += f"sys.exit(run_to_its_end([sys.executable, '-c', {child!r}]))"
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "ended\n"
    assert process.returncode == 0


def test_an_old_python_is_refused_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(__main__, "ensure_environment", lambda extras: pytest.fail("set up"))
    with pytest.raises(ValueError, match=r"^Python: found 3\.9 \(.+\), expected 3\.11 or newer"):
        __main__.main(["demo"])


@pytest.mark.parametrize("name", BEFORE_INSTALLATION)
def test_an_old_python_reads_what_runs_before_the_installation(name):
    source = (ROOT / "segcal_lite" / f"{name}.py").read_text(encoding="utf-8")
    imported = list(ast.walk(ast.parse(source, feature_version=(3, 8))))
    modules = {alias.name for n in imported if isinstance(n, ast.Import) for alias in n.names}
    assert modules <= sys.stdlib_module_names


def test_the_command_line_needs_no_package():
    """Not even in Python's site-packages: -S leaves them out."""
    for arguments in (["--help"], ["demo", "--profile", "x"]):
        done = subprocess.run(
            [sys.executable, "-S", "-m", "segcal_lite", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert "demo" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Make environments in a folder of their own, without filling them; return what was made."""
    steps = []

    def create(folder, with_pip, clear):
        steps.append("new")
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "pyvenv.cfg").write_text("version = 3.11.7\n")
        (folder / "bin" / "python").touch()
        for stamp in folder.glob("installed-*"):
            stamp.unlink()

    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "_is_installed", lambda: False)
    monkeypatch.setattr(environment, "_has_pip", Path.exists)
    monkeypatch.setattr(environment.os, "name", "posix")
    monkeypatch.setattr(environment.venv, "create", create)
    monkeypatch.setattr(
        environment.subprocess, "run", lambda command, **options: steps.append(command[2])
    )

    def ensure():
        steps.clear()
        python = environment.ensure_environment()
        assert python == tmp_path / ".venv" / "bin" / "python"
        return steps

    return ensure


FILLED = ["pip", "ipykernel"]


def test_an_environment_is_made_once_and_filled_again_for_other_pins(made, tmp_path):
    assert made() == ["new", *FILLED]
    assert made() == []
    (tmp_path / "constraints.txt").write_text("numpy==2.0\n")
    assert made() == FILLED


def test_an_environment_with_more_packages_will_do(made, tmp_path):
    environment.ensure_environment(("data", "test"))
    assert made() == []
    environment.ensure_environment(("data",))
    assert len(list((tmp_path / ".venv").glob("installed-*"))) == 1
    environment.ensure_environment(("data", "test", "slow"))
    assert len(list((tmp_path / ".venv").glob("installed-*"))) == 2


def test_of_two_who_set_up_at_once_the_second_waits(made, tmp_path, monkeypatch, capsys):
    install, under_way = environment._install, threading.Event()

    def slow(*arguments):
        under_way.set()
        time.sleep(0.3)
        install(*arguments)

    monkeypatch.setattr(environment, "_install", slow)
    first = threading.Thread(target=environment.ensure_environment)
    first.start()
    under_way.wait()
    assert made() == ["new", *FILLED]  # by the first, whose turn it was
    first.join()
    assert "waiting for another process, which sets up" in capsys.readouterr().out


@pytest.mark.parametrize("output", [None, b"one line\nno module ensurepip\n"])
def test_an_installation_that_fails_is_one_sentence(output, made, tmp_path, monkeypatch):
    def fail(command, **options):
        raise subprocess.CalledProcessError(1, command, output)

    monkeypatch.setattr(environment.subprocess, "run", fail)
    cause = "no module ensurepip" if output else "see above"
    told = rf".venv: found no packages, for setting it up failed \({cause}\), expected a network"
    with pytest.raises(ValueError, match=told):
        made()
    assert not list((tmp_path / ".venv").glob("installed-*"))


@pytest.mark.parametrize("line", ["version = 3.9.18", "version_info = 3.10.1", "home = /usr", ""])
def test_an_environment_of_an_older_python_is_made_anew(line, made, tmp_path):
    made()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(f"home = /usr/bin\n{line}\n")
    assert made() == ["new", *FILLED]
    assert made() == []


def test_a_real_nnunet_gets_an_environment_of_its_own(made, monkeypatch, tmp_path):
    """Even where one with the package is active, which all else takes as it is."""
    monkeypatch.setattr(environment, "_is_installed", lambda: True)
    assert environment.ensure_environment(("data", "test")) == Path(sys.executable)
    python = environment.ensure_environment(("data", "test", "nnunet"))
    assert python == tmp_path / ".venv-nnunet" / "bin" / "python"


def test_an_environment_that_moved_with_its_checkout_is_made_anew(made, tmp_path):
    made()
    (stamp,) = (tmp_path / ".venv").glob("installed-*")
    stamp.write_text("/home/somebody/else")
    assert made() == ["new", *FILLED]


def test_an_environment_whose_python_is_gone_is_made_anew(made, tmp_path):
    made()
    (tmp_path / ".venv" / "bin" / "python").unlink()
    assert made() == ["new", *FILLED]


def test_newer_pythons_share_an_environment(made, tmp_path):
    made()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("version_info = 3.13.1.final.0\n")
    assert made() == []


def test_threads_wait_passively_in_every_kernel_unless_somebody_says_otherwise():
    """Notebooks name the kernel that every environment has, so the package says it."""
    ask = "import segcal_lite, os; print(os.environ['OMP_WAIT_POLICY'])"
    bare = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        said = subprocess.check_output([sys.executable, "-c", ask], env=bare | given, cwd=ROOT)
        assert said.decode().strip() == expected
