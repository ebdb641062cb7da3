"""Archives unpacked so that a hostile one can do no harm: whole or not at all.

Refused are names that lead out of the folder, names that come twice, links, devices, and archives
that hold far more than their size lets expect.
"""

import errno
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from segcal_lite._checks import wrong_input
from segcal_lite.runs.claims import claimed
from segcal_lite.runs.folders import read_json, write_json

LARGEST_RATIO = 50  # unpacked bytes for each packed one; NIfTI and DICOM stay below 10
FREE_BYTES = 2**27  # small archives may exceed the ratio up to here
LARGEST_COUNT = 1_000_000
LONGEST_HEADER = 2**20  # bytes of a long name, or of what else pax says of a member
HEADER_BYTES = 2**28  # of all those of an archive, which stay in memory
LONGEST_PART = 255  # bytes of a name between two separators, as systems take them
ORIGIN = ".unpacked-from.json"
LONG_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, NotImplementedError, RuntimeError),  # the last: an encrypted zip
)


def unpack(archive, folder):
    """Unpack a tar (also compressed) or zip archive into `folder`, unless that was done before.

    Parameters
    ----------
    archive, folder : path
        What is unpacked lies in ``FOLDER.partial`` until it is whole. A note in the folder says
        which archive it is from; an archive that has changed since is unpacked anew.

    Returns
    -------
    Path of the folder

    Raises
    ------
    ValueError
        Naming the archive: unreadable, truncated, or with a member that is refused; or the folder,
        if it is of another origin.
    """
    archive, folder = Path(archive), Path(folder)
    with claimed(folder.parent, f".claim-{folder.name}"):  # two may ask for it at once
        _unpack_once(archive, folder)
    return folder


def _unpack_once(archive, folder):
    """Unpack an archive aside and give the folder its name, unless it is there."""
    state = archive.stat()
    origin = {"archive": archive.name, "size": state.st_size, "time": state.st_mtime_ns}
    if folder.exists():
        if not (folder / ORIGIN).exists():
            raise wrong_input(folder, f"a folder that is not from {archive.name}", "none")
        if read_json(folder / ORIGIN) == origin:
            return
        shutil.rmtree(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _unpack_members(archive, partial)
        write_json(partial / ORIGIN, origin)
        partial.rename(folder)
    except DAMAGED as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # such as a full disk
            raise
        cause = " ".join(str(error).split())
        raise wrong_input(archive, f"a damaged archive ({cause})", "a whole one") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack_members(archive, folder):
    """Check all members, then write the files among them."""
    members = (_Zip if zipfile.is_zipfile(archive) else _Tar)(archive)
    with members.opened:
        _check_members(archive, members)
        for name, size, member in members.files():
            if not PurePosixPath(name).name:
                raise wrong_input(archive, f"the file {name!r}", "files with names")
            if not _is_of_macos(name):
                _write_member(archive, members.open(member), size, folder, name)


class _TarHeader(tarfile.TarInfo):
    """A header that is looked at before what follows it is read: a name can have gigabytes."""

    def _proc_member(self, opened):  # where `tarfile` lets a subclass in
        if self.type in LONG_HEADERS:
            opened.header_bytes += self.size
            if self.size > LONGEST_HEADER or opened.header_bytes > HEADER_BYTES:
                both = f"{self.size} bytes, {opened.header_bytes} with those before it"
                raise tarfile.ReadError(f"a header of {both}")
        try:
            return super()._proc_member(opened)
        except ValueError as error:  # what pax says is no number
            raise tarfile.ReadError(f"a header that makes no sense: {error}") from error


class _TarFile(tarfile.TarFile):
    tarinfo, header_bytes = _TarHeader, 0


class _Tar:
    """The members of a tar archive."""

    def __init__(self, archive):
        self.opened = _TarFile.open(archive)

    def __iter__(self):
        """Yield name, size and whether a member is a plain file or folder, as far as asked."""
        for member in self.opened:
            is_plain = (member.isfile() and not member.issparse()) or member.isdir()
            yield member.name, member.size, is_plain
        self.opened.fileobj.seek(self.opened.offset)
        if self.opened.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):  # taken for the end
            raise tarfile.ReadError("a member without a whole header")

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
        return [(m.filename, m.file_size, m) for m in self.members if not m.filename.endswith("/")]

    def open(self, member):
        return self.opened.open(member)


def _check_members(archive, members):
    """Refuse the archive for its first member that is not a plain file or folder inside it."""
    allowed = max(FREE_BYTES, LARGEST_RATIO * archive.stat().st_size)
    total = 0
    for count, (name, size, plain) in enumerate(members, start=1):
        parts = PurePosixPath(name).parts
        if any(len(part.encode(errors="surrogateescape")) > LONGEST_PART for part in parts):
            found = f"the member {name[:20]!r}... of {len(name)} letters"
            raise wrong_input(archive, found, f"names of at most {LONGEST_PART} bytes")
        if name.startswith("/") or ".." in parts or re.search(r"[\\:]", name):
            raise wrong_input(archive, f"the member {name!r}", "names that stay in the folder")
        if not plain:
            raise wrong_input(
                archive, f"the member {name!r}", "files and folders, no links or sparse"
            )
        total += size
        if total > allowed or count > LARGEST_COUNT:
            found = f"{total} bytes or more in {count} members"
            raise wrong_input(archive, found, f"at most {allowed} bytes, for its size")


def _is_of_macos(name):
    """Whether a file is what macOS adds to archives."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._")


def _write_member(archive, stream, size, folder, name):
    """Write one file; a second of its name, or another length than stated, is refused."""
    path, left = folder / name, size + 1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")  # also where the disk does not tell upper from lower case
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise wrong_input(archive, f"{name!r} a second time", "each file once") from error
    with stream, file:
        while left and (block := stream.read(min(left, 2**20))):
            file.write(block)
            left -= len(block)
    if left != 1:
        raise wrong_input(archive, f"another length of {path.name} than stated", f"{size} bytes")
