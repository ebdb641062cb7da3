"""Confidence calibration and out-of-distribution detection for medical image segmentation."""

import getpass
import os
import tempfile
from pathlib import Path

__version__ = "0.1.0"

# Threads that wait actively make small networks three times slower beside any other program.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded, which is later


def _name_the_user():
    """Give a user whom the system does not know, as in a container, a name and a home.

    MONAI, PyTorch and Jupyter ask for them, some when they are imported.
    """
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):
        os.environ["LOGNAME"] = "nobody"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


_name_the_user()
