"""Packed voxels of MetaImage and NRRD: whether they are whole, which SimpleITK does not check.

It keeps what memory held where a stream breaks off, and asks no checksum of MetaImage's.
"""

import math
import zlib

from ..._checks import told_if_unreadable, wrong_input
from .headers import LONGEST_HEADER, METAIMAGE, detached_files, is_list, is_pattern, read_header

BLOCK = 2**20  # bytes that are read at once
UNPACKED = 2**24  # bytes that are unpacked at once
GZIP, ZLIB_OR_GZIP = 31, 47  # zlib's numbers for the kinds of stream
DAMAGED = "a damaged or unknown file", "a whole volume"


def check_packed(path, n_bytes, n_slices):
    """Refuse packed voxels that are damaged, cut, or not as many as the header states.

    Parameters
    ----------
    path : Path
        MetaImage or NRRD.
    n_bytes, n_slices : int
        Of all voxels, unpacked, and along the last axis.
    """
    fields, start = read_header(path)
    is_meta = path.suffix.lower() in METAIMAGE
    files = detached_files(path)
    value = fields.get("elementdatafile", "")
    if is_meta and (is_list(value) or is_pattern(value)) and len(files) != n_slices:
        raise wrong_input(path, f"{len(files)} files of voxels", f"one for each of {n_slices}")
    try:
        stream = (_stream_of_metaimage if is_meta else _stream_of_nrrd)(path, fields)
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise wrong_input(path, *DAMAGED) from error  # a length that is no number
    if stream is None:
        return
    for file in files:
        _check_stream(file, 0, n_bytes // len(files), **stream)
    if not files:
        _check_stream(path, start, n_bytes, **stream)


def _stream_of_metaimage(path, fields):
    """Return how a MetaImage packs its voxels, for `_check_stream`, or nothing."""
    if not fields.get("compresseddata", "").startswith(("T", "t", "1")):
        return None
    n_packed, header = (int(fields.get(n) or 0) for n in ("compresseddatasize", "headersize"))
    if not n_packed and (header or not detached_files(path)):
        # SimpleITK takes the length, and the start, of the whole file.
        raise wrong_input(path, "packed voxels of unknown length", "CompressedDataSize as well")
    return {"kind": ZLIB_OR_GZIP, "n_packed": n_packed or math.inf, "header": header}


def _stream_of_nrrd(path, fields):
    """Return how an NRRD packs its voxels, for `_check_stream`, or nothing."""
    encoding = fields.get("encoding", "").lower()
    if encoding in ("bz2", "bzip2"):
        raise wrong_input(path, "voxels packed by bzip2", "raw or gzip, which SimpleITK reads")
    if encoding not in ("gz", "gzip"):
        return None
    lines, skipped = (
        int(fields.get(f"{what} skip") or fields.get(f"{what}skip") or 0)
        for what in ("line", "byte")
    )
    return {"kind": GZIP, "n_lines": lines, "n_skipped": skipped}


def _check_stream(path, start, n_bytes, kind, n_packed=math.inf, header=0, n_lines=0, n_skipped=0):
    """Refuse a stream that does not end well, or with another number of bytes.

    It begins at byte `start`, or behind `header`, or as many bytes before the end as the voxels
    have if that is negative, and behind `n_lines`; `n_skipped` bytes are none of the voxels': if
    negative, all before the last `n_bytes`, as SimpleITK has it.
    """
    with told_if_unreadable(path):
        n_stored = path.stat().st_size
    try:
        with path.open("rb") as file:
            file.seek(n_stored - n_bytes if header < 0 else header or start)
            for _ in range(n_lines):
                if not file.readline(LONGEST_HEADER):
                    break
            end = min(n_stored, file.tell() + n_packed)
            most = n_bytes + n_skipped if n_skipped >= 0 else math.inf
            found = n_unpacked(file, end, most, kind)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise wrong_input(path, *DAMAGED) from error
    if found != most and (n_skipped >= 0 or found < n_bytes):
        raise wrong_input(path, *DAMAGED)


def n_unpacked(file, end, most, kind):
    """Return how many bytes a stream holds, or a number above `most`; nothing of it is kept.

    ``zlib.error`` or ``EOFError`` where it is damaged or cut; gzip's may follow upon each other.
    """
    unpacker, n_bytes, packed = zlib.decompressobj(kind), 0, b""
    while n_bytes <= most:
        packed = packed or _next_block(file, end)
        block = unpacker.decompress(packed, UNPACKED)
        n_bytes += len(block)
        if unpacker.eof:
            packed = unpacker.unused_data
            packed = packed if len(packed) > 1 else packed + _next_block(file, end)
            if kind != GZIP or not packed.startswith(b"\x1f\x8b"):
                break
            unpacker = zlib.decompressobj(kind)
        elif not packed and not block:
            raise EOFError("the stream breaks off")
        else:
            packed = unpacker.unconsumed_tail
    return n_bytes


def _next_block(file, end):
    """Return the next bytes of a file, none of them at `end` or behind it."""
    return file.read(max(0, min(BLOCK, end - file.tell())))
