"""Files that are damaged, lie about their size or carry code: one sentence that names the file, nothing run, no memory taken."""

import io
import json
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import residual
from residual.conversion import pickles
from residual.conversion.formats import read
from residual.variants import architecture
from tests.conversion.foreign import saved_of

ROOT = Path(__file__).parents[2]
State = dict[str, torch.Tensor]


def state() -> State:
    """A CIFAR net of eight layers, as a checkpoint has it."""
    return {name: torch.from_numpy(value) for name, value in saved_of(architecture("cifar_resnet8")).weights.items()}


def saved(holds: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(holds, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def refused(path: Path) -> str:
    """The one sentence."""
    with warnings.catch_warnings(), pytest.raises(ValueError, match=path.name) as caught:
        read(path)
    said = str(caught.value)
    assert said.count("\n") == 0
    assert said.endswith(".")
    with pytest.raises(ValueError, match=path.name):
        residual.load(path)
    return said


def rezipped(content: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


@pytest.mark.parametrize("part", [0, 4, 60, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "ours"])
def test_truncated(kind: str, part: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    if kind == "safetensors":
        save_file(state(), path)
    elif kind == "ours":
        residual.save(residual.create("cifar_resnet8"), path)
    else:
        path.write_bytes(saved(state(), legacy=kind == "legacy"))
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content)) if part < 1 else int(part)])
    refused(path)


@pytest.mark.parametrize("where", ["zip", "legacy", "nested", "plain", "first", "namespace"])
def test_code_in_a_pickle_is_not_run(where: str, tmp_path: Path) -> None:
    path, proof = tmp_path / "model.pth", tmp_path / "it_ran"
    code = Code(proof)
    holds: dict[str, Any] = {
        "zip": lambda: saved({**state(), "extra": code}), "legacy": lambda: saved({**state(), "extra": code}, legacy=True),
        "nested": lambda: saved({"state_dict": state(), "args": code}), "plain": lambda: pickle.dumps(code),
        "first": lambda: pickle.dumps(code) + saved(state(), legacy=True),
        "namespace": lambda: saved({"state_dict": state(), "args": __import__("argparse").Namespace(lr=0.1)}),
    }  # fmt: skip
    path.write_bytes(holds[where]())
    said = refused(path)
    assert "only files of plain tensors are read" in said
    assert ("argparse.Namespace" if where == "namespace" else "touch" if sys.version_info < (3, 12) else "") in said or "getattr" in said
    assert not proof.exists()
    if where == "zip":
        torch.load(path, weights_only=False)
        assert proof.exists(), "the code would have run"


def test_a_pickle_changes_nothing_that_it_names(tmp_path: Path) -> None:
    """Its last instruction would give a function of ours another default."""
    change = b"X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."
    (tmp_path / "a.pth").write_bytes(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}" + change)
    refused(tmp_path / "a.pth")
    assert pickles._claim.__defaults__ is None


def test_a_whole_model_and_a_program_are_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.save(residual.create("cifar_resnet8"), tmp_path / "whole.pth")
    assert "state_dict()" in refused(tmp_path / "whole.pth")


@pytest.mark.parametrize(
    "wrong", ["shape", "extra", "missing", "NaN", "infinity", "integers", "scalars", "scalar head", "gap", "empty", "twice"]
)
def test_wrong_contents(wrong: str, tmp_path: Path) -> None:
    holds = state()
    edits: dict[str, tuple[Callable[[], Any], str]] = {
        "shape": (lambda: holds.update({"layer2.0.bn1.bias": torch.zeros(31)}), r"layer2.0.bn1.bias has shape (31,) instead of (32,)"),
        "extra": (lambda: holds.update({"layer1.0.gate": torch.zeros(3)}), "layer1.0.gate is not a tensor of this net"),
        "missing": (lambda: holds.pop("layer3.0.bn2.running_var"), "layer3.0.bn2.running_var is missing"),
        "NaN": (lambda: holds["fc.weight"].fill_(torch.nan), "fc.weight holds NaN"),
        "infinity": (lambda: holds["fc.bias"].fill_(torch.inf), "fc.bias holds NaN or infinity"),
        "integers": (lambda: holds.update({"fc.bias": torch.zeros(10, dtype=torch.int64)}), "fc.bias holds LongStorage"),
        "scalars": (lambda: holds.update({"conv1.weight": torch.zeros(())}), "no network that is known"),
        "scalar head": (lambda: holds.update({"fc.weight": torch.zeros(())}), "fc.weight has shape () instead of (1, 64)"),
        "gap": (lambda: holds.update({"layer2.7.bn1.weight": torch.zeros(3)}), "layer2 are not numbered"),
        "empty": (holds.clear, "no dictionary of tensors"),
        "twice": (lambda: holds.update({"module.fc.bias": torch.zeros(10)}), "fc.bias twice"),
    }
    change, words = edits[wrong]
    change()
    torch.save(holds, tmp_path / "wrong.pth")
    assert words in refused(tmp_path / "wrong.pth")


@pytest.mark.parametrize("head", ["linear", "conv", "none"])
def test_a_strange_head(head: str, tmp_path: Path) -> None:
    holds = state()
    weight = holds.pop("fc.weight")
    if head == "linear":
        holds["linear.weight"] = weight
        holds["fc.weight"] = weight.clone()
    elif head == "conv":
        holds["fc.weight"] = weight[:, :, None, None, None].contiguous()
    torch.save(holds, tmp_path / "head.pth")
    assert {"linear": "one meaning", "conv": "fc.weight has shape", "none": "no classifier"}[head] in refused(tmp_path / "head.pth")


BOMBS: dict[str, Callable[[], bytes]] = {
    "deflated": lambda: rezipped(saved(state()), lambda name, old: old, zipfile.ZIP_DEFLATED),
    "a bomb": lambda: rezipped(saved(state()), lambda name, old: bytes(2**28) if name.endswith("data/0") else old, zipfile.ZIP_DEFLATED),
    "no such storage": lambda: rezipped(saved(state()), lambda name, old: old[: len(old) // 2] if "/data/" in name else old),
    "header": lambda: struct.pack("<Q", 10 * 2**30) + b"{" + bytes(100),
    "offsets": lambda: _header({"conv1.weight": {"dtype": "F32", "shape": [2**16, 2**15], "data_offsets": [0, 10 * 2**30]}}),
    "shape": lambda: _header({"conv1.weight": {"dtype": "F32", "shape": [2**16, 2**15], "data_offsets": [0, 16]}}),
    "a huge storage": lambda: _claiming(10 * 2**30 // 4, legacy=False),
    "a huge legacy storage": lambda: _claiming(10 * 2**30 // 4, legacy=True),
    "expanded": lambda: saved({**state(), "fc.weight": torch.zeros(1).expand(2**16, 2**15)}),
    "shared": lambda: saved(_shared()),
    "a huge stride": lambda: _strided(),
    "infinity": lambda: _header({"conv1.weight": {"dtype": "F32", "shape": [float("inf")], "data_offsets": [0, 16]}}),
    "deep": lambda: b"\x80\x02" + b"(" * 1_000_000 + b".",
    "bytes": lambda: b"\x80\x05\x96" + (10 * 2**30).to_bytes(8, "little") + b".",
    "a deep key": lambda: b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"K\x01s.",
    "a deep word": lambda: _doubled(b"Q."),
}  # fmt: skip


SAID = {
    "no such storage": "values that are not in it",
    "a huge storage": "values that are not in it",
    "expanded": "claims more values than the 1 that are stored",
    "shape": "header is damaged",
    "infinity": "header is damaged",
    "a huge stride": "claims more values than the 7 that are stored",
    "deep": "its pickle",
    "bytes": "its pickle is damaged (KeyError",
    "a deep key": "a key that is neither text nor a number",
    "a deep word": "something else than tensors",
}


def _header(rows: dict[str, Any]) -> bytes:
    text = json.dumps(rows).encode()
    return struct.pack("<Q", len(text)) + text + bytes(16)


def _claiming(count: int, *, legacy: bool) -> bytes:
    """A file whose only storage of 7 numbers says that it has `count`."""
    content = saved({"conv1.weight": torch.zeros(7)}, legacy)
    old, new = b"K\x07tq", b"\x8a\x05" + count.to_bytes(5, "little") + b"tq"
    if legacy:
        return content.replace(b"K\x07Ntq", b"\x8a\x05" + count.to_bytes(5, "little") + b"Ntq", 1)
    return rezipped(content, lambda name, was: was.replace(old, new, 1) if name.endswith("data.pkl") else was)


def _strided() -> bytes:
    """Seven numbers of which each is said to lie five thousand million places after the other."""
    content, wide = saved({"conv1.weight": torch.zeros(7)}), b"\x8a\x05" + (5 * 10**9).to_bytes(5, "little") + b"\x85"
    return rezipped(content, lambda name, was: was.replace(b"K\x01\x85", wide, 1) if name.endswith("data.pkl") else was)


def _doubled(end: bytes) -> bytes:
    """The name of a storage: pairs of pairs, fifty deep, which take a thousand million million words to print."""
    return b"\x80\x02(" + b")" + b"2\x86" * 50 + b"K\x01K\x01K\x01K\x01t" + end


def _shared() -> State:
    """Many names for the same numbers: 40 blocks that would take 40 times the file."""
    holds, conv = state(), torch.zeros(16, 16, 3, 3)
    for number in range(1, 40):
        for name, value in state().items():
            if name.startswith("layer1.0."):
                holds[name.replace("layer1.0.", f"layer1.{number}.")] = conv if value.ndim == 4 else value
    return {name: conv if value.shape == conv.shape else value for name, value in holds.items()}


@pytest.mark.parametrize("name", BOMBS)
def test_sizes_that_are_not_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    path.write_bytes(BOMBS[name]())
    said = refused(path)
    assert SAID.get(name, "claim") in said


def test_no_memory_is_taken(tmp_path: Path) -> None:
    """All of them read in one process whose memory must not grow by as much as 200 MB."""
    for number, make in enumerate(BOMBS.values()):
        (tmp_path / f"{number}.pth").write_bytes(make())
    script = (
        "import resource, sys, torch\nfrom pathlib import Path\nfrom residual.conversion.formats import read\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nrefused = 0\n"
        "for path in Path(sys.argv[1]).iterdir():\n    try:\n        read(path)\n    except ValueError:\n        refused += 1\n"
        "print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT, timeout=300)
    refusals, grown = map(int, done.stdout.split())
    assert refusals == len(BOMBS)
    assert grown < 200_000, f"{grown} KiB"


def test_files_of_other_kinds_are_said_to_be_unknown(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(3), "b": torch.ones(1, 2)}, tmp_path / "other.safetensors")
    said = refused(tmp_path / "other.safetensors")
    assert "2 tensors (a.weight (3,), b (1, 2), ...)" in said
    assert "torchvision's and timm's ResNets" in said
    for name, content in {
        "text.pth": b"hello, world\n" * 9,
        "one.pth": b"x",
        "zeros.pth": bytes(4096),
        "png.pth": b"\x89PNG\r\n\x1a\n" * 40,
    }.items():
        (tmp_path / name).write_bytes(content)
        assert "neither a PyTorch nor a safetensors file" in refused(tmp_path / name)
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    assert "zip archive that PyTorch did not write" in refused(tmp_path / "arrays.npz")
    (tmp_path / "folder").mkdir()
    assert "is not a run" in refused(tmp_path / "folder")
    assert "no model file" in refused(tmp_path / "nowhere.pth")


def test_random_damage_never_gets_past_a_sentence(tmp_path: Path) -> None:
    """A byte changed anywhere: the file is read, or refused in a sentence; nothing else is raised."""
    stream = np.random.default_rng(0)
    for content in (saved(state()), saved(state(), legacy=True)):
        pickled = content.index(b"\x80\x02")
        for _ in range(150):
            damaged = bytearray(content)
            damaged[int(stream.integers(pickled, pickled + 6000))] = int(stream.integers(256))
            path = tmp_path / "damaged.pth"
            path.write_bytes(bytes(damaged))
            try:
                read(path)
            except ValueError as error:
                assert "damaged.pth" in str(error)  # noqa: PT017
