"""Files that are damaged, lie or mean harm: noticed, named in one line, and never run."""

import contextlib
import gc
import json
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty import CONFIG, VOCABULARY

from charrnn.checkpoint import RunFolder, load_weights
from charrnn.errors import CharrnnError, CheckpointError
from charrnn.nn.network import create
from charrnn.training.progress import Progress

MakeState = Callable[[int], dict[str, np.ndarray]]
Record = Callable[[str, object, str], None]
NAMES = ("model.safetensors", "config.json", "vocabulary.json", "metrics.jsonl", "steps/2/state.safetensors",
         "steps/2/progress.json", "steps/2/manifest.json")  # fmt: skip
HARM = {"pickle.find_class", "exec", "os.system", "os.exec", "os.fork", "subprocess.Popen", "marshal.loads"}
_harm: list[str] = []
_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and (event in HARM or (event == "open" and "hacked" in str(arguments[0]))):
        _harm.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(_watch)  # once for the process; it listens only inside `nothing_runs`


@contextlib.contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails if code is run or loaded, or a file written, by what is read inside; imports are done before."""
    global _watching
    _harm.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert not _harm


def two_steps(folder: RunFolder, state_of: MakeState) -> Path:
    """Save steps 1 and 2; returns the newer one's folder."""
    for step in (1, 2):
        folder.save_step(step, state_of(step), {"step": step})
    return folder.path / "steps" / "2"


def falls_back(folder: RunFolder, state_of: MakeState) -> None:
    """Restoring takes step 1 and warns; then the damaged step is put back in its place."""
    warnings: list[str] = []
    state, progress, step = folder.restore(state_of(0), dict, warnings.append)
    assert (step, progress) == (1, {"step": 1}) and (state["weights"] == state_of(1)["weights"]).all()
    assert len(warnings) == 1 and "steps/2: " in warnings[0] and "\n" not in warnings[0]
    (folder.path / "steps" / "damaged-2").rename(folder.path / "steps" / "2")


def test_one_byte_flipped_anywhere(folder: RunFolder, state_of: MakeState, record: Record, seed: int) -> None:
    newest, chosen = two_steps(folder, state_of), random.Random(seed)
    files = sorted(newest.iterdir())
    sizes = [file.stat().st_size for file in files]
    for _ in range(200):
        (file,) = chosen.choices(files, sizes)
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[chosen.randrange(len(whole))] ^= 1 << chosen.randrange(8)
        file.write_bytes(flipped)
        falls_back(folder, state_of)
        file.write_bytes(whole)
    assert folder.restore(state_of(0), dict, pytest.fail)[2] == 2
    record("one byte flipped anywhere in the newest step", 200, "200 noticed; falls back with a warning")


def test_newest_step_truncated(folder: RunFolder, state_of: MakeState, record: Record) -> None:
    newest, tries = two_steps(folder, state_of), 0
    for file in sorted(newest.iterdir()):
        whole = file.read_bytes()
        for length in np.linspace(0, len(whole) - 1, 17).astype(int):
            file.write_bytes(whole[:length])
            falls_back(folder, state_of)
            tries += 1
        file.write_bytes(whole)
    record("newest step truncated", tries, f"{tries} noticed; falls back with a warning")


def test_all_steps_damaged(folder: RunFolder, state_of: MakeState, record: Record) -> None:
    two_steps(folder, state_of)
    for saved in folder.saved_steps():
        (saved.path / "state.safetensors").write_bytes(b"")
    before = sorted(folder.path.rglob("*"))
    with pytest.raises(CheckpointError, match=r"no step loads: .*steps/2: state.*steps/1: state.*Nothing was deleted"):
        folder.restore(state_of(0), dict, pytest.fail)
    assert sorted(folder.path.rglob("*")) == before and CheckpointError.exit_code == 1
    record("all steps damaged", 1, "both listed with why; nothing deleted; exit 1")


class Bomb:
    """A pickle of it would write a file."""

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, ("/tmp/hacked", "w")


def hostile(whole: bytes, chosen: random.Random) -> bytes:
    """Something other than the file that was there."""
    kind = chosen.randrange(10)
    if kind == 0:
        return chosen.randbytes(chosen.randrange(300))
    if kind == 1:
        return pickle.dumps(Bomb())
    if kind == 2:  # a header that says it is huge
        return chosen.choice([2**63 - 1, 2**40, 100_000_001, len(whole), 0]).to_bytes(8, "little") + whole[8:]
    if kind == 3:
        return chosen.choice([b"[" * 100_000, b'{"a":' * 100_000, b"[[]," * 50_000, b'{"characters": ' + b"[" * 9_999])
    if kind == 4 and whole[:1] != b"{":
        return with_header(whole, lambda header: lie(header, chosen))
    if kind == 5:
        values = [b"null", b"-1", b"1e999", b"NaN", b'"../../etc/passwd"', b"[]", b"{}", b"9" * 5000, b"true"]
        at = chosen.choice([k for k, byte in enumerate(whole) if byte in b"0123456789"] or [0])
        return whole[:at] + chosen.choice(values) + whole[at + 1 :]
    if kind == 6:
        return whole[: chosen.randrange(len(whole))]
    if kind == 7:
        return whole + chosen.randbytes(chosen.randrange(1, 100))
    changed = bytearray(whole)
    for _ in range(chosen.randrange(1, 6)):
        changed[chosen.randrange(len(changed))] = chosen.randrange(256)
    return bytes(changed)


def with_header(whole: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A safetensors file with another header."""
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    change(header)
    new = json.dumps(header).encode()
    return len(new).to_bytes(8, "little") + new + whole[8 + size :]


def lie(header: dict[str, Any], chosen: random.Random) -> None:
    """Change one array's shape, dtype, place or name."""
    name = chosen.choice([key for key in header if key != "__metadata__"])
    kind = chosen.randrange(4)
    if kind == 0:
        header[name]["shape"] = chosen.choice([[2**62], [0], [-1], [2**31, 2**31], [1] * 1000, "x", [1.5]])
    elif kind == 1:
        header[name]["dtype"] = chosen.choice(["F64", "U8", "OBJECT", "BOOL", 7])
    elif kind == 2:
        header[name]["data_offsets"] = chosen.choice([[0, 2**63], [5, 1], [0, 0], [-4, 4], []])
    else:
        header[chosen.choice(["../../hacked", "/tmp/hacked", "__reduce__", "\0"])] = header.pop(name)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux tells it")
def test_hostile_files(
    folder: RunFolder, tmp_path: Path, full: bool, record: Record, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = create(CONFIG.model, VOCABULARY.size, 1)
    folder.save_weights(network, {"step": 1})
    folder.save_step(1, {"weights": np.ones(3, np.float32)}, Progress().to_json())
    pristine = tmp_path / "pristine"
    shutil.copytree(folder.path, pristine)
    targets = ["model.safetensors"] * 4 + ["config.json", "vocabulary.json", "metrics.jsonl"]
    targets += [f"steps/1/{name}" for name in ("state.safetensors", "progress.json", "manifest.json")]
    folder.append_metrics({"event": "train", "step": 1})
    shutil.copy(folder.metrics_path, pristine)
    chosen, tries, refused, largest = random.Random(seed), 10_000 if full else 400, 0, 0
    template = {"weights": np.ones(3, np.float32)}
    readers = (
        lambda: load_weights(folder.path), folder.config, folder.vocabulary, folder.metrics,
        lambda: folder.restore(template, Progress.from_json, pytest.fail),
    )  # fmt: skip

    def attempt() -> None:
        nonlocal refused, largest
        target = chosen.choice(targets)
        content = hostile((pristine / target).read_bytes(), chosen)
        (folder.path / target).write_bytes(content)
        largest = max(largest, len(content))
        for read in readers:
            try:
                read()
            except CharrnnError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
                refused += 1
        (folder.path / target).write_bytes((pristine / target).read_bytes())
        assert [saved.step for saved in folder.saved_steps()] == [1]

    for _ in range(300):  # everything that reading imports is imported
        attempt()
    refused, before = 0, start_of_peak()
    with nothing_runs():
        for _ in range(tries):
            attempt()
    grown = peak() - before
    assert grown < 2 * largest + 50_000_000, grown  # besides twice the file, what JSON and JAX keep
    assert refused > tries // 2
    record("hostile files for weights, steps and JSON", tries,
           f"one line each; no code run; at most {grown / 1e6:.0f} MB above what was held before")  # fmt: skip


@pytest.mark.parametrize("other", ["pipe", "device", "folder", "loop"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_is_not_waited_for(folder: RunFolder, state_of: MakeState, name: str, other: str) -> None:
    two_steps(folder, state_of)
    path = folder.path / name
    path.unlink(missing_ok=True)
    if other == "pipe":
        os.mkfifo(path)
    elif other == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name}[other])
    readers = {"model.safetensors": lambda: load_weights(folder.path), "config.json": folder.config,
               "vocabulary.json": folder.vocabulary, "metrics.jsonl": folder.metrics}  # fmt: skip
    if name not in readers:
        return falls_back(folder, state_of)
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read \("):
        readers[name]()
    return None


def peak() -> int:
    """The most memory that this process has held, in bytes, since `start_of_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def start_of_peak() -> int:
    """Begin to measure the most memory anew; returns what is held now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


@pytest.mark.parametrize(
    ("name", "listed"),
    [("../../3", False), ("３", False), ("3-", False), ("-3", False), ("3x", False), ("0x3", False), ("3-1", True)],
)
def test_folders_that_are_no_steps_are_not_listed(folder: RunFolder, name: str, listed: bool) -> None:
    (folder.path / "steps" / name).mkdir(parents=True, exist_ok=True)
    assert bool(folder.saved_steps()) == listed


@pytest.mark.parametrize(
    "change", [{"best_step": "x"}, {"elapsed": True}, {"losses": 3}, {"health": []}, {"health": {"x": 1}}, {"other": 1}]
)
def test_progress_that_is_not_ours_is_refused(change: dict[str, Any]) -> None:
    ours = Progress(made_from="a text", best_step=3, losses=[1.5]).to_json()
    assert Progress.from_json(json.loads(json.dumps(ours))).to_json().keys() == ours.keys()
    for wrong in (ours | change, [], None, 3, "x"):
        with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
            Progress.from_json(wrong)
