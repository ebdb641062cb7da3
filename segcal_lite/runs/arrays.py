"""Arrays of a run: written whole as an archive of NumPy, and named where they are damaged."""

import struct
import tokenize
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np

from .._checks import wrong_input
from .folders import written_aside

UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile),
    *(RuntimeError, NotImplementedError, struct.error),  # encrypted, packed otherwise, cut
    *(SyntaxError, TypeError, OverflowError, tokenize.TokenError),  # of NumPy, in a header
)


def write_arrays(path, **arrays):
    """Write arrays by name, whole or not at all."""
    with written_aside(path) as partial:
        np.savez_compressed(partial, **arrays)


def read_arrays(path, *names):
    """Return the arrays of a file of `write_arrays`, a dict: those of `names`, or all.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "sums.npz"
    >>> write_arrays(path, whole=np.arange(3))
    >>> read_arrays(path)
    {'whole': array([0, 1, 2])}
    """
    expected = "a whole one; if a run has made it, remove it and run again"
    with told_if_damaged(path, expected), np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in names or arrays.files}
    unread = [name for name, array in found.items() if not isinstance(array, np.ndarray)]
    if unread:  # NumPy hands on the bytes of what does not begin as an array does
        raise wrong_input(path, f"a damaged file ({unread[0]} is no array)", expected)
    return found


@contextmanager
def told_if_damaged(path, expected, errors=UNREADABLE):
    """Name the file, and what is wrong with it; a sentence of our own passes."""
    try:
        yield
    except MemoryError as error:
        raise wrong_input(path, "too little memory for its voxels", "more, or less") from error
    except errors as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        cause = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise wrong_input(path, f"a damaged file ({cause})", expected) from error
