"""What arguments of the command line have to be; read before anything is installed."""

from argparse import ArgumentTypeError
from pathlib import Path

PHANTOMS = "phantoms"
PROFILES = ("smoke", "laptop", "paper")


def path_from_here(text):
    """A path of the command line, which starts from the current folder: absolute.

    No ``..`` is left, so that a run knows its data again, from wherever they are given.
    """
    if not text:
        raise ArgumentTypeError("found nothing, expected a path")
    try:
        place = Path(text).expanduser().absolute()
        str(place).encode()  # pages and tables name it, the current folder with it
    except RuntimeError as error:
        raise ArgumentTypeError(f"found {text!r}, expected a user who has a home") from error
    except UnicodeEncodeError as error:  # bytes of an old encoding
        found = ascii(str(place))
        raise ArgumentTypeError(f"found {found}, expected a path in UTF-8: rename it") from error
    return str(place.resolve() if ".." in place.parts else place)


def source(text):
    """A path that is there."""
    if not Path(path_from_here(text)).exists():
        raise ArgumentTypeError(f"found no file or folder {path_from_here(text)}")
    return path_from_here(text)


def source_or_phantoms(text):
    """A path that is there, or the word for the built-in data."""
    return text if text == PHANTOMS else source(text)


def seed(text):
    """A seed of the command line."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"found {text!r}, expected an integer of at least 0")
    return int(text)
