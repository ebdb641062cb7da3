"""Archives unpacked so that a hostile one can do no harm: whole or not at all.

Refused are names that lead out of the folder, links, devices, and archives that hold far more
than their size lets expect.
"""

import re
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from segcal_lite._checks import wrong_input

LARGEST_RATIO = 50  # unpacked bytes for each packed one; NIfTI and DICOM stay below 10
FREE_BYTES = 2**27  # small archives may exceed the ratio up to here
LARGEST_COUNT = 1_000_000
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)


def unpack(archive, folder):
    """Unpack a tar (also compressed) or zip archive into `folder`, unless it is there.

    Parameters
    ----------
    archive, folder : path
        What is unpacked lies in ``FOLDER.partial`` until it is whole.

    Returns
    -------
    Path of the folder

    Raises
    ------
    ValueError
        Naming the archive: unreadable, truncated, or with a member that is refused.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        return folder
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        members = (_Zip if zipfile.is_zipfile(archive) else _Tar)(archive)
        with members.opened:
            _check_members(archive, members)
            for name, size, member in members.files():
                if not _is_of_macos(name):
                    _write_member(archive, members.open(member), size, partial / name)
    except DAMAGED as error:
        shutil.rmtree(partial, ignore_errors=True)
        if getattr(error, "errno", None):  # of the system, such as a full disk
            raise
        raise wrong_input(archive, f"a damaged archive ({error})", "a whole one") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)
    return folder


class _Tar:
    """The members of a tar archive."""

    def __init__(self, archive):
        self.opened = tarfile.open(archive)  # noqa: SIM115 - closed by `unpack`

    def __iter__(self):
        """Yield name, size and whether a member is a plain file or folder, as far as asked."""
        for member in self.opened:
            yield member.name, member.size, member.isfile() or member.isdir()

    def files(self):
        """Return name, size and member of each file."""
        return [(m.name, m.size, m) for m in self.opened.getmembers() if m.isfile()]

    def open(self, member):
        """Return a stream of a member's bytes."""
        return self.opened.extractfile(member)


class _Zip:
    """The members of a zip archive, as of `_Tar`."""

    def __init__(self, archive):
        self.opened = zipfile.ZipFile(archive)
        self.members = self.opened.infolist()

    def __iter__(self):
        for member in self.members:
            kind = member.external_attr >> 28  # of Unix; 0 where another system packed it
            yield member.filename, member.file_size, kind in (0, 0o4, 0o10)

    def files(self):
        return [(m.filename, m.file_size, m) for m in self.members if not m.is_dir()]

    def open(self, member):
        return self.opened.open(member)


def _check_members(archive, members):
    """Refuse the archive for its first member that is not a plain file or folder inside it."""
    allowed = max(FREE_BYTES, LARGEST_RATIO * archive.stat().st_size)
    total = 0
    for count, (name, size, plain) in enumerate(members, start=1):
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or re.search(r"[\\:]", name):
            raise wrong_input(archive, f"the member {name!r}", "names that stay in the folder")
        if not plain:
            raise wrong_input(archive, f"the member {name!r}", "files and folders, no links")
        total += size
        if total > allowed or count > LARGEST_COUNT:
            found = f"{total} bytes or more in {count} members"
            raise wrong_input(archive, found, f"at most {allowed} bytes, for its size")


def _is_of_macos(name):
    """Whether a member is what macOS adds to archives."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1].startswith("._")


def _write_member(archive, stream, size, path):
    """Write one file; a stream that is longer or shorter than stated is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = size + 1
    with stream, path.open("wb") as file:
        while left and (block := stream.read(min(left, 2**20))):
            file.write(block)
            left -= len(block)
    if left != 1:
        raise wrong_input(archive, f"another length of {path.name} than stated", f"{size} bytes")
