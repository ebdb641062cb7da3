"""The project's own ``.venv`` with pinned packages and its own Jupyter kernel.

Runs before anything is installed: the standard library only.
"""

import hashlib
import os
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "segcal_lite"


def ensure_environment(extras=()):
    """Return the Python to go on with: this one if it has the package, else the ``.venv``'s.

    An activated environment that holds segcal_lite (conda's, Binder's) is taken as it is. Otherwise
    ``.venv`` is made and filled as `constraints.txt` says, with the optional dependencies `extras`;
    a finished one is used again until ``pyproject.toml`` or ``constraints.txt`` change.
    """
    folder = ROOT / ".venv"
    in_own = Path(sys.prefix).resolve() == folder.resolve()
    if not in_own and _is_installed():
        return Path(sys.executable)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / f"installed-{'-'.join(extras) or 'base'}-{_pins()}"
    if not stamp.exists():
        _install(folder, python, extras)
        stamp.touch()
    return python


def _is_installed():
    """Whether this Python has the package installed, not just on its path."""
    try:
        return distribution("segcal_lite").read_text("INSTALLER") is not None
    except PackageNotFoundError:
        return False


def _pins():
    """A digest of what decides the installed versions."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()[:12]


def _install(folder, python, extras):
    """Make the environment and its kernel; a second call goes on where the first one stopped."""
    print(f"setting up {folder} (once; some minutes)", flush=True)
    if not python.exists():
        venv.create(folder, with_pip=True)
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", "-e", target], check=True)
    kernel = ["-m", "ipykernel", "install", "--prefix", folder, "--name", KERNEL]
    kernel += ["--display-name", "segcal_lite", *("--env", "OMP_WAIT_POLICY", "PASSIVE")]
    # Threads that wait actively make small networks three times slower beside any other program.
    subprocess.run([python, *kernel], check=True, stdout=subprocess.DEVNULL)
