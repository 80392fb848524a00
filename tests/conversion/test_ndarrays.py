"""MXNet's list of arrays without MXNet: what is written comes back, and a file that lies about its sizes takes no memory."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from residual.conversion import ndarrays

TENSORS = {"a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "b": np.array([1.5], np.float32)}


def array(shape: tuple[int, ...], *, kind: int = 0, magic: int = ndarrays.V2, storage: int = 0, data: bytes = b"") -> bytes:
    head = struct.pack("<Ii", magic, storage) if magic != ndarrays.V1 else struct.pack("<I", magic)
    return head + struct.pack(f"<i{len(shape)}qiii", len(shape), *shape, 1, 0, kind) + data


def file_of(*arrays: bytes, names: tuple[bytes, ...] = (b"x",), count: int | None = None, claimed: int | None = None) -> bytes:
    told = b"".join(struct.pack("<Q", len(name) if claimed is None else claimed) + name for name in names)
    number = len(arrays) if count is None else count
    return ndarrays.LIST + struct.pack("<Q", number) + b"".join(arrays) + struct.pack("<Q", len(names)) + told


ONE = array((1,), data=bytes(4))


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    ndarrays.write(path, TENSORS)
    found = ndarrays.read(path)
    assert ndarrays.recognise(path)
    assert list(found) == list(TENSORS)
    assert all(found[name].tobytes() == value.tobytes() and found[name].shape == value.shape for name, value in TENSORS.items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.params"]


def test_a_transposed_tensor_is_written_in_its_own_order(tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3).T
    ndarrays.write(tmp_path / "a", {"x": value})
    assert (ndarrays.read(tmp_path / "a")["x"] == value).all()


HOSTILE = {
    "10 GiB": (file_of(array((10, 1024, 1024, 256))), r"needs 10737418240 bytes, but \d+ are left"),
    "more than memory counts": (file_of(array((2**62, 2**62))), r"needs \d{37,} bytes"),
    "negative sides": (file_of(array((-2, -2))), r"has the shape \(-2, -2\)"),
    "many dimensions": (file_of(struct.pack("<Iii", ndarrays.V2, 0, 2**30)), "has 1073741824 dimensions"),
    "old format, many dimensions": (file_of(struct.pack("<I", 2**31)), "has 2147483648 dimensions"),
    "many arrays": (file_of(ONE, count=2**60), "number of arrays is 1152921504606846976"),
    "many names": (ndarrays.LIST + struct.pack("<Q", 1) + ONE + struct.pack("<Q", 2**60), "number of names is 1152921504606846976"),
    "a long name": (file_of(ONE, claimed=2**40), "a name in it claims 1099511627776 characters"),
    "a name of bytes": (file_of(ONE, names=(b"\xff",)), "a name in it is not text"),
    "one name twice": (file_of(ONE, ONE, names=(b"x", b"x")), "2 arrays and 1 different names"),
    "more behind": (file_of(ONE) + b"y", "1 bytes follow its end"),
    "sparse": (file_of(array((1,), storage=2, data=bytes(4))), "stored as csr"),
    "whole numbers": (file_of(array((1,), kind=4, data=bytes(4))), "of type int32"),
    "half a type": (file_of(array((1,), kind=12, data=bytes(2))), "of type bfloat16"),
    "unknown type": (file_of(array((1,), kind=99)), "of type 99"),
    "nothing in it": (file_of(array(())), "0 dimensions"),
    "another file": (b"PK\x03\x04" + bytes(40), "does not begin as one"),
    "empty": (b"", "cut off"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, tmp_path: Path) -> None:
    content, message = HOSTILE[name]
    path = tmp_path / "a.params"
    path.write_bytes(content)
    ndarrays.recognise(path)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as caught:
        ndarrays.read(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{path} is not a file of MXNet arrays")


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a"
    ndarrays.write(path, TENSORS)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut off|does not begin"):
            ndarrays.read(path)


def test_nothing_is_recognised_that_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x12\x01\0\0")
    assert not any(map(ndarrays.recognise, (tmp_path, tmp_path / "a", tmp_path / "none")))
    with pytest.raises(ValueError, match=r"none is not a file of MXNet arrays"):
        ndarrays.read(tmp_path / "none")


def test_a_scalar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'x'"):
        ndarrays.write(tmp_path / "a", {"x": np.float32(1).reshape(())})
    assert not list(tmp_path.iterdir())
