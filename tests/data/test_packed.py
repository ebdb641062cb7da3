"""Packed voxels of MetaImage and NRRD: whole ones are read, damaged and cut ones are refused."""

import bz2
import gzip
import io
import math
import tracemalloc
import zlib

import numpy as np
import pytest

from segcal_lite.data.formats.packed import GZIP, ZLIB_OR_GZIP, n_unpacked
from segcal_lite.data.other_formats import voxel_files
from segcal_lite.data.volumes import read_label, read_volume

pytest.importorskip("SimpleITK")

VOXELS = np.random.default_rng(0).integers(0, 200, (7, 6, 5)).astype(np.int16)
RAW = VOXELS.T.tobytes()
META = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
META += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementSpacing = 1 1 3\nDimSize = 7 6 5\n"
META += "ElementType = MET_SHORT\n"
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nendian: little\nspace: LPS\n"
NRRD += "space directions: (1,0,0) (0,1,0) (0,0,3)\n"
DAMAGED = "found a damaged or unknown file, expected a whole volume"


def write_meta(path, body, lines="", data_file="LOCAL", size=True, before=b""):
    """Write a packed MetaImage, its stream behind the header or in `data_file`."""
    lines += f"CompressedDataSize = {len(body)}\n" if size else ""
    head = f"{META}CompressedData = True\n{lines}ElementDataFile = {data_file}\n".encode()
    if data_file == "LOCAL":
        path.write_bytes(head + body)
    else:
        path.write_bytes(head)
        (path.parent / data_file).write_bytes(before + body)
    return path


def write_nrrd(path, body, lines="", encoding="gzip"):
    path.write_bytes(f"{NRRD}encoding: {encoding}\n{lines}\n".encode() + body)
    return path


def one_a_slice(folder, pack):
    """Write each slice as a file of its own; return their names."""
    names = [f"s{k:02d}.raw" for k in range(5)]
    for k, name in enumerate(names):
        (folder / name).write_bytes(pack(VOXELS[:, :, k].T.tobytes()))
    return names


PACKS = {
    "mha, zlib": lambda path, raw, cut: write_meta(path / "a.mha", cut(zlib.compress(raw))),
    "mha, gzip": lambda path, raw, cut: write_meta(path / "a.mha", cut(gzip.compress(raw))),
    "mhd": lambda path, raw, cut: write_meta(
        path / "a.mhd", cut(zlib.compress(raw)), data_file="a.zraw"
    ),
    "mhd without a size": lambda path, raw, cut: write_meta(
        path / "a.mhd", cut(zlib.compress(raw)), data_file="a.zraw", size=False
    ),
    "mha beside its voxels": lambda path, raw, cut: write_meta(
        path / "a.mha", cut(zlib.compress(raw)), data_file="a.zraw"
    ),
    "mhd with a header": lambda path, raw, cut: write_meta(
        path / "a.mhd",
        cut(zlib.compress(raw)),
        "HeaderSize = 9\n",
        data_file="a.zraw",
        before=b"a header ",
    ),
    "nrrd": lambda path, raw, cut: write_nrrd(path / "a.nrrd", cut(gzip.compress(raw))),
    "nrrd, gz": lambda path, raw, cut: write_nrrd(
        path / "a.nrrd", cut(gzip.compress(raw)), encoding="gz"
    ),
    "nrrd, lines and bytes before": lambda path, raw, cut: write_nrrd(
        path / "a.nrrd",
        b"a line\nanother\n" + cut(gzip.compress(b"123" + raw)),
        "line skip: 2\nbyteskip: 3\n",
    ),
    "nrrd, from the end": lambda path, raw, cut: write_nrrd(
        path / "a.nrrd", cut(gzip.compress(b"123" + raw)), "byte skip: -1\n"
    ),
    "nrrd, two members": lambda path, raw, cut: write_nrrd(
        path / "a.nrrd", cut(gzip.compress(raw[:100]) + gzip.compress(raw[100:]))
    ),
}


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_whole_streams_are_read(tmp_path, pack):
    volume = read_volume(pack(tmp_path, RAW, lambda stream: stream))
    np.testing.assert_array_equal(volume.data, VOXELS)
    assert volume.spacing_mm == (1, 1, 3)


def flipped(stream, place):
    damaged = bytearray(stream)
    damaged[place] ^= 0xFF
    return bytes(damaged)


DAMAGES = {
    "cut in half": lambda stream: stream[: len(stream) // 2],
    "cut by a byte": lambda stream: stream[:-1],
    "checksum": lambda stream: flipped(stream, -6),
    "byte": lambda stream: flipped(stream, len(stream) // 3),
    "zeros": lambda stream: stream[:90] + bytes(8) + stream[98:],
    "first byte": lambda stream: flipped(stream, 0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_damaged_streams_are_refused(tmp_path, pack, damage):
    path = pack(tmp_path, RAW, damage)
    named = (voxel_files(path) or (path,))[0].name  # of two files the one that is damaged
    with pytest.raises(ValueError, match=f"{named}: {DAMAGED}"):
        read_volume(path)


@pytest.mark.parametrize("raw", [RAW[:-2], RAW + RAW[:2], RAW * 3, b""])
@pytest.mark.parametrize("pack", ["mha, zlib", "mhd", "nrrd"])
def test_streams_of_another_length_are_refused(tmp_path, pack, raw):
    with pytest.raises(ValueError, match=DAMAGED):
        read_volume(PACKS[pack](tmp_path, raw, lambda stream: stream))


@pytest.mark.parametrize(
    "lines",
    [
        f"CompressedDataSize = {len(zlib.compress(RAW)) - 20}\n",
        "CompressedDataSize = many\n",
        "CompressedDataSize = -5\n",
        f"CompressedDataSize = {len(zlib.compress(RAW))}\nHeaderSize = -1\n",
        f"CompressedDataSize = {len(zlib.compress(RAW))}\nHeaderSize = 999999\n",
    ],
)
def test_a_stream_elsewhere_than_stated_is_refused(tmp_path, lines):
    path = write_meta(tmp_path / "a.mha", zlib.compress(RAW), lines, size=False)
    with pytest.raises(ValueError, match="a.mha: found a damaged"):
        read_volume(path)


@pytest.mark.parametrize("keep", [1, 0.7])
def test_a_stream_of_unknown_length_behind_its_header_is_refused(tmp_path, keep):
    """SimpleITK would take the header for its beginning."""
    stream = zlib.compress(RAW)[: int(keep * len(zlib.compress(RAW)))]
    path = write_meta(tmp_path / "a.mha", stream, size=False)
    with pytest.raises(ValueError, match="packed voxels of unknown length, expected CompressedDa"):
        read_volume(path)


@pytest.mark.parametrize(
    "said", ["CompressedData: True", "CompressedData = true", "\nCompressedData=1"]
)
def test_headers_may_say_it_in_other_letters(tmp_path, said):
    path = write_meta(tmp_path / "a.mha", flipped(zlib.compress(RAW), -1))
    path.write_bytes(path.read_bytes().replace(b"CompressedData = True", said.encode()))
    with pytest.raises(ValueError, match=DAMAGED):
        read_volume(path)


@pytest.mark.parametrize("numbers", ["0 4 1", "LIST"])
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_a_file_a_slice(tmp_path, ending, numbers):
    is_meta = ending == ".mhd"
    names = one_a_slice(tmp_path, zlib.compress if is_meta else gzip.compress)
    files = "LIST\n" + "\n".join(names) if numbers == "LIST" else f"s%02d.raw {numbers}"
    path = tmp_path / f"a{ending}"
    if is_meta:
        path.write_text(f"{META}CompressedData = True\nElementDataFile = {files}\n")
    else:
        path.write_text(f"{NRRD}encoding: gzip\ndata file: {files}\n")
    assert voxel_files(path) == tuple(tmp_path / name for name in names)
    np.testing.assert_array_equal(read_volume(path).data, VOXELS)
    damaged = tmp_path / names[3]
    damaged.write_bytes(flipped(damaged.read_bytes(), -5))
    with pytest.raises(ValueError, match=f"{names[3]}: {DAMAGED}"):
        read_volume(path)
    damaged.unlink()
    found = f"{names[3]}: found no such file" if is_meta else "a.nhdr: found a damaged"
    with pytest.raises(ValueError, match=found):
        read_volume(path)


def test_names_of_files_that_a_header_numbers(tmp_path):
    path = tmp_path / "a.mhd"

    def names(files):
        path.write_text(f"{META}ElementDataFile = {files}\n")
        return [file.name for file in voxel_files(path)]

    assert names("s%d.raw 1 5 2") == ["s1.raw", "s3.raw", "s5.raw"]
    assert names("s%d.raw 2 0 -1") == ["s2.raw", "s1.raw", "s0.raw"]
    assert names("s%d.raw 1 2000000000 1") == ["s%d.raw 1 2000000000 1"]  # no numbers, a name
    assert names("local") == names("LOCAL") == []


@pytest.mark.parametrize(
    "files", ["LIST\ns00.raw\ns01.raw\ns02.raw", "s%02d.raw 0 3 1", "s%02d.raw 0 5 1"]
)
def test_too_few_or_too_many_files_of_slices_are_refused(tmp_path, files):
    """SimpleITK would leave the other slices as memory was, of plain voxels too."""
    one_a_slice(tmp_path, bytes)
    path = tmp_path / "a.mhd"
    path.write_text(f"{META}ElementDataFile = {files}\n")
    with pytest.raises(
        ValueError, match="a.mhd: found [346] files of voxels, expected one .* of 5"
    ):
        read_volume(path)


@pytest.mark.parametrize("encoding", ["raw", "text", "hex"])
@pytest.mark.parametrize("keep", [0.3, 0.97])
def test_cut_plain_voxels_are_refused(tmp_path, encoding, keep):
    numbers = " ".join(map(str, VOXELS.T.ravel())).encode()
    body = {"raw": RAW, "text": numbers, "hex": RAW.hex().encode()}[encoding]
    path = write_nrrd(tmp_path / "a.nrrd", body, encoding=encoding)
    np.testing.assert_array_equal(read_volume(path).data, VOXELS)
    write_nrrd(path, body[: int(keep * len(body))], encoding=encoding)
    with pytest.raises(ValueError, match=DAMAGED):
        read_volume(path)
    path = tmp_path / "a.mha"
    path.write_bytes((META + "ElementDataFile = LOCAL\n").encode() + RAW[: int(keep * len(RAW))])
    with pytest.raises(ValueError, match=DAMAGED):
        read_volume(path)


@pytest.mark.parametrize("encoding", ["bzip2", "bz2"])
def test_bzip2_is_none_of_simpleitks(tmp_path, encoding):
    path = write_nrrd(tmp_path / "a.nrrd", bz2.compress(RAW), encoding=encoding)
    with pytest.raises(ValueError, match="found voxels packed by bzip2, expected raw or gzip"):
        read_volume(path)


def test_a_damaged_label_is_refused(tmp_path):
    """Its garbage may consist of labels."""
    path = write_meta(tmp_path / "a.mha", zlib.compress(np.ones(210, np.int16).tobytes()))
    assert read_label(path).data.max() == 1
    path.write_bytes(flipped(path.read_bytes(), -1))
    with pytest.raises(ValueError, match=DAMAGED):
        read_label(path)


def test_a_stream_is_never_whole_in_memory():
    n_bytes = 2**28
    unpacker = zlib.compressobj(1)
    blocks = [unpacker.compress(bytes(2**24)) for _ in range(16)]
    stream = b"".join([*blocks, unpacker.flush()])
    tracemalloc.start()
    try:
        end = len(stream)
        assert n_unpacked(io.BytesIO(stream), end, math.inf, ZLIB_OR_GZIP) == n_bytes
        assert 10 < n_unpacked(io.BytesIO(stream), end, 10, ZLIB_OR_GZIP) < n_bytes  # and stops
        assert tracemalloc.get_traced_memory()[1] < n_bytes / 4
    finally:
        tracemalloc.stop()


def test_members_follow_upon_each_other_and_other_bytes_do_not_count():
    members = gzip.compress(b"abc") + gzip.compress(b"de") + bytes(50)
    assert n_unpacked(io.BytesIO(members), len(members), 100, GZIP) == 5
    with pytest.raises(EOFError):
        n_unpacked(io.BytesIO(members), len(members) - 52, 100, GZIP)
