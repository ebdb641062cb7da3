"""The project's own ``.venv`` with pinned packages and its own Jupyter kernel.

Runs before anything is installed: the standard library only, and words that an old Python reads.
"""

import hashlib
import os
import re
import subprocess
import sys
import time
import venv
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "segcal_lite"
APART = "nnunet"  # an extra whose packages stay out of everybody's environment
OLDEST = 3, 11  # Python, as pyproject.toml says


def check_python():
    """Refuse an old Python before it makes or fills anything."""
    if sys.version_info[:2] < OLDEST:
        found = f"{_dotted(sys.version_info)} ({sys.executable})"
        example = "make demo PYTHON=python3.12"
        raise ValueError(f"Python: found {found}, expected {_dotted(OLDEST)} or newer: {example}.")


def _dotted(version):
    """The first two numbers of a version, as people write them."""
    return ".".join(map(str, version[:2]))


def escape_other_letters():
    """Print letters that the terminal or file lacks by their number, rather than stop at them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what stands in for them, as in notebooks, may not
            stream.reconfigure(errors="backslashreplace")


def run_to_its_end(command, **options):
    """Run a command and return its exit status; Ctrl-C, which it gets too, is its own affair.

    `subprocess.run` would kill it a quarter of a second later, before it has ended what it began.
    """
    with subprocess.Popen(command, **options) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def ensure_environment(extras=()):
    """Return the Python to go on with: this one if it has the package, else the ``.venv``'s.

    An activated environment that holds segcal_lite (conda's, Binder's) is taken as it is. Otherwise
    ``.venv`` is made and filled as `constraints.txt` says, with the optional dependencies `extras`;
    a finished one is used again until ``pyproject.toml`` or ``constraints.txt`` change. What needs
    a real nnU-Net always goes to ``.venv-nnunet``.
    """
    is_apart = APART in extras
    folder = ROOT / (f".venv-{APART}" if is_apart else ".venv")
    in_own = Path(sys.prefix).resolve() == folder.resolve()
    if not is_apart and not in_own and _is_installed():
        return Path(sys.executable)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not _is_filled(folder, python, extras):
        with _alone(folder):
            if not _is_filled(folder, python, extras):  # by whoever was waited for
                _install(folder, python, extras)
                stamp = f"installed-{'-'.join(extras) or 'base'}-{_pins()}"
                (folder / stamp).write_text(str(ROOT), encoding="utf-8")
    return python


def _is_filled(folder, python, extras):
    """Whether an environment has all packages: an installation with more extras will do."""
    stamps = folder.glob(f"installed-*-{_pins()}")
    has_all = any(set(extras) <= set(stamp.name.split("-")[1:-1]) for stamp in stamps)
    return has_all and python.exists() and not _is_foreign(folder)


@contextmanager
def _alone(folder):
    """Let one process at a time set up an environment; the system ends the lock of who ends."""
    try:
        file = folder.with_name(f"{folder.name}.lock").open("a")
    except OSError:  # nobody may write here: the installation will say so
        yield
        return
    with file:
        waits = False
        while not _has_lock(file):
            if not waits:
                print(f"waiting for another process, which sets up {folder}", flush=True)
            waits = True
            time.sleep(1)
        yield


def _has_lock(file):
    """Lock a file; false while another process has it."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a disk without locks
        return True
    return True


def _is_foreign(folder):
    """Whether an environment is of an older Python, or was made for a checkout elsewhere."""
    settings = folder / "pyvenv.cfg"
    text = settings.read_text(encoding="utf-8") if settings.exists() else ""
    made_by = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", text, re.MULTILINE)
    if not made_by or tuple(map(int, made_by.groups())) < OLDEST:
        return True
    places = {stamp.read_text(encoding="utf-8") for stamp in folder.glob("installed-*")}
    return bool(places - {"", str(ROOT)})  # empty: made before stamps named their place


def _has_pip(python):
    """Whether an environment's Python is there and has pip, which one left half made has not."""
    ask = [python, "-m", "pip", "--version"]
    return python.exists() and subprocess.run(ask, capture_output=True, check=False).returncode == 0


def _is_installed():
    """Whether this Python has the package installed, not just on its path.

    What an editable installation leaves in the checkout is not it, and comes first from there.
    """
    found = distributions(name="segcal_lite")
    return any(one.read_text("INSTALLER") is not None for one in found)


def _pins():
    """A digest of what decides the installed versions."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()[:12]


def _install(folder, python, extras):
    """Make the environment and its kernel; a second call goes on where the first one stopped."""
    print(f"setting up {folder} (once; some minutes)", flush=True)
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    kernel = ["-m", "ipykernel", "install", "--prefix", folder, "--name", KERNEL]
    kernel += ["--display-name", "segcal_lite"]
    try:
        if _is_foreign(folder) or not _has_pip(python):
            venv.create(folder, with_pip=True, clear=True)
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", "-e", target], check=True)
        subprocess.run([python, *kernel], check=True, stdout=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        said = (error.output or b"see above").decode(errors="replace").strip()
        found = f"no packages, for setting it up failed ({said.splitlines()[-1]})"
        expected = "a network, this once, and a place to write; the same command goes on"
        raise ValueError(f"{folder}: found {found}, expected {expected}.") from error
