import zipfile

import numpy as np
import pytest

from segcal_lite.runs.arrays import read_arrays, write_arrays


@pytest.fixture
def path(tmp_path):
    write_arrays(tmp_path / "sums.npz", whole=np.arange(300.0), box=np.zeros((2, 3)))
    return tmp_path / "sums.npz"


def test_arrays_come_back_by_name_or_all(path):
    assert [*read_arrays(path, "box")] == ["box"]
    found = read_arrays(path)
    assert found["whole"].tolist() == list(range(300)) and found["box"].shape == (2, 3)


def test_every_cut_and_every_flipped_byte_is_named_or_harmless(path):
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                found = read_arrays(path, "whole")["whole"]
            except ValueError as error:
                assert str(error).startswith(f"{path}: found a damaged file ("), at
            else:
                assert found.tolist() == list(range(300)), at


def test_a_name_that_is_not_there_and_a_file_that_is_not_there_are_told(path, tmp_path):
    with pytest.raises(ValueError, match=r"sums.npz: found a damaged file .*band"):
        read_arrays(path, "band")
    with pytest.raises(ValueError, match=r"none.npz: found a damaged file .*No such file"):
        read_arrays(tmp_path / "none.npz")


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "sums.npz", whole=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(tmp_path / "sums.npz")


def test_a_member_that_does_not_begin_as_an_array_is_damage(tmp_path):
    with zipfile.ZipFile(tmp_path / "sums.npz", "w") as archive:
        archive.writestr("whole.npy", b"\x00NUMPY and more")
    with pytest.raises(ValueError, match=r"a damaged file \(whole is no array\)"):
        read_arrays(tmp_path / "sums.npz")
