"""The disk fails at every call in turn, or the process is killed there: what was reported saved is still there."""

import contextlib
import errno
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty import CONFIG, VOCABULARY, FaultySystem, Killed

from charrnn.checkpoint import RunFolder, files, load_weights
from charrnn.checkpoint.steps import load
from charrnn.errors import CharrnnError, StorageError
from charrnn.nn.network import create

PAGE = os.sysconf("SC_PAGE_SIZE")
MakeState = Callable[[int], dict[str, np.ndarray]]
Record = Callable[[str, object, str], None]


def save(folder: RunFolder, state_of: MakeState, step: int, reported: list[int]) -> None:
    """One save as training does it; it is reported when it returns."""
    folder.append_metrics({"event": "train", "step": step})
    folder.save_step(step, state_of(step), {"step": step})
    reported.append(step)


def newest(folder: RunFolder, state_of: MakeState) -> int:
    """The step that loads; each that is listed must be whole and itself."""
    for saved in folder.saved_steps():
        state, progress = load(saved, state_of(0), dict)
        assert progress == {"step": saved.step} and (state["weights"] == state_of(saved.step)["weights"]).all()
    return folder.steps()[-1] if folder.steps() else 0


def tried(system: FaultySystem, place: Path, state_of: MakeState) -> tuple[list[int], RunFolder, Exception | None]:
    """The scenario on a disk that `system` governs, in a run folder that is there."""
    folder, lock = RunFolder.create(place, "one", CONFIG, VOCABULARY)
    lock.release()
    reported: list[int] = []
    failure: Exception | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", system)
        try:
            for step in (1, 2, 2, 3):
                save(folder, state_of, step, reported)
        except Killed:
            pass
        except CharrnnError as error:
            failure = error
    return reported, folder, failure


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, state_of: MakeState) -> list[str]:
    """What the scenario asks of the system, in order."""
    system = FaultySystem()
    _, folder, _ = tried(system, tmp_path_factory.mktemp("counted"), state_of)
    assert folder.steps() == [2, 3]
    assert {"open", "write", "fsync", "rename", "mkdir", "unlink", "rmdir"} <= set(system.calls)
    return system.calls


@pytest.mark.parametrize("fault", ["kill", "half", "power"])
def test_killed_at_every_call(
    tmp_path: Path, state_of: MakeState, calls: list[str], fault: str, record: Record, seed: int
) -> None:
    for at in range(len(calls)):
        system = FaultySystem(fault, at, seed=seed + at)
        reported, folder, failure = tried(system, tmp_path / str(at), state_of)
        assert system.dead and failure is None
        last = reported[-1] if reported else 0
        assert newest(folder, state_of) >= last, f"call {at} ({calls[at]})"
        assert [event["step"] for event in folder.metrics()][: len(reported)] == reported  # no line of theirs is lost
        folder.tidy()  # as a resumed run does first
        folder.truncate_metrics(99)
        left = {path.name for path in (folder.path / "steps").iterdir()}
        assert left == {saved.path.name for saved in folder.saved_steps()}
        save(folder, state_of, 9, reported)  # and training goes on
        assert newest(folder, state_of) == 9
        assert [event["step"] for event in folder.metrics()][-1] == 9
    what = {"kill": "kill -9 at every call of a save", "half": "kill -9 in the middle of every write of a save",
            "power": "power cut at every call of a save (what was not synchronised is lost)"}[fault]  # fmt: skip
    record(what, len(calls), "the last reported step loads, no half step is listed")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("fault", ["once", "always"])
def test_every_call_fails(
    tmp_path: Path, state_of: MakeState, calls: list[str], fault: str, error: int, record: Record
) -> None:
    succeeded = 0
    for at in range(len(calls)):
        reported, folder, failure = tried(FaultySystem(fault, at, error), tmp_path / str(at), state_of)
        assert failure is None or "cannot be written (" in str(failure), failure
        assert failure is not None or len(reported) == 4, f"call {at} ({calls[at]}) failed and nobody was told"
        assert "\n" not in str(failure)
        succeeded += failure is None
        assert newest(folder, state_of) >= (reported[-1] if reported else 0)
        save(folder, state_of, 9, reported)
        assert newest(folder, state_of) == 9
    record(f"the i-th call of a save fails: {errno.errorcode[error]} {fault}", len(calls),
           f"{len(calls) - succeeded} told in one line, {succeeded} succeeded; the step before loads")  # fmt: skip


def test_a_full_disk_at_every_level(tmp_path: Path, state_of: MakeState, record: Record) -> None:
    enough = FaultySystem()
    tried(enough, tmp_path / "enough", state_of)
    for level in range(20):
        system = FaultySystem(room=enough.written * level // 20)
        reported, folder, failure = tried(system, tmp_path / str(level), state_of)
        assert isinstance(failure, StorageError) and failure.exit_code == 1
        assert re.match(rf"{folder.path}/\S+: cannot be written \(No space left on device\); it needs [\d,]+ bytes and",
                        str(failure))  # fmt: skip
        assert newest(folder, state_of) == (reported[-1] if reported else 0)
        save(folder, state_of, 9, reported)
        assert newest(folder, state_of) == 9
    record("disk full, injected", 20, "one line with path and bytes needed; last step loads; goes on with room")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 pages, where the machine lets us have one."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={64 * PAGE}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system; the injected disk is tried")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, state_of: MakeState, record: Record) -> None:
    told = 0
    for level in range(20):
        folder, lock = RunFolder.create(small_disk / str(level), "one", CONFIG, VOCABULARY)
        lock.release()
        filler, reported = small_disk / "filler", list[int]()
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(free - level * PAGE))
        try:
            for step in (1, 2, 2, 3):
                save(folder, state_of, step, reported)
        except StorageError as error:
            told += 1
            assert "No space left on device" in str(error) and "make room" in str(error) and "\n" not in str(error)
        else:
            assert len(reported) == 4
        assert newest(folder, state_of) == (reported[-1] if reported else 0)
        filler.unlink()
        save(folder, state_of, 9, reported)
        assert newest(folder, state_of) == 9
        shutil.rmtree(small_disk / str(level))
    assert 3 < told < 20
    record("disk full, a small tmpfs", 20, f"{told} told in one line, {20 - told} had room; goes on with room")


def at_every_call(fault: str, place: Path, act: Callable[[Path], None]) -> Iterator[Path]:
    """Act once for every call that it makes, interfered with at that call; yields the place of each try."""
    for at in itertools.count():
        system = FaultySystem(fault, at, errno.EIO, seed=at)
        here = place / str(at)
        here.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "os", system)
            with contextlib.suppress(Killed, CharrnnError):
                act(here)
        if len(system.calls) <= at:  # there is no such call: nothing was interfered with
            assert not system.dead and at > 5
            return
        yield here


@pytest.mark.parametrize("fault", ["kill", "half", "power", "once"])
def test_files_that_are_replaced_are_the_old_or_the_new(tmp_path: Path, fault: str, record: Record) -> None:
    old, new = (create(CONFIG.model, VOCABULARY.size, seed) for seed in (1, 2))
    (tmp_path / "first").mkdir()
    first, lock = RunFolder.create(tmp_path / "first", "one", CONFIG, VOCABULARY)
    lock.release()
    first.save_weights(old, {"step": 1})
    first.append_metrics({"event": "train", "step": 1})

    def act(here: Path) -> None:
        shutil.copytree(first.path, here / "one")
        RunFolder(here / "one").save_weights(new, {"step": 2})
        reported.add(here)
        RunFolder(here / "one").truncate_metrics(0)

    tries, steps, reported = 0, set(), set[Path]()
    for here in at_every_call(fault, tmp_path, act):
        folder = RunFolder(here / "one")
        step = load_weights(folder.path)[3]["step"]
        assert step == 2 or here not in reported
        steps.add(step)
        assert folder.metrics() in ([], first.metrics())
        assert (folder.config(), folder.vocabulary()) == (CONFIG, VOCABULARY)
        tries += 1
    assert steps == {1, 2}
    what = {"kill": "kill -9", "half": "kill -9 in mid-write", "power": "power cut", "once": "EIO"}[fault]
    record(f"{what} at every call that replaces weights and metrics", tries, "the old ones load or the new ones")


@pytest.mark.parametrize("fault", ["kill", "power", "once"])
def test_a_run_folder_is_made_whole_or_not_at_all(tmp_path: Path, fault: str, record: Record) -> None:
    def act(here: Path) -> None:
        RunFolder.create(here, "one", CONFIG, VOCABULARY)[1].release()

    tries, there = 0, set()
    for here in at_every_call(fault, tmp_path, act):
        there.add((here / "one").exists())
        if (here / "one").exists():
            folder = RunFolder(here / "one")
        else:  # the same call again makes it
            folder, lock = RunFolder.create(here, "one", CONFIG, VOCABULARY)
            lock.release()
        assert (folder.config(), folder.vocabulary()) == (CONFIG, VOCABULARY)
        assert folder.metrics_path.exists() and (folder.path / "steps").exists()
        assert [path.name for path in here.iterdir()] == ["one"]
        tries += 1
    assert there == {True, False}
    what = {"kill": "kill -9", "power": "power cut", "once": "EIO"}[fault]
    record(f"{what} at every call that makes a run folder", tries, "it is there whole, or not at all")


def test_what_is_left_of_a_removal_is_tidied(folder: RunFolder, state_of: MakeState) -> None:
    for name in ("partial-7", "removed-3"):
        (folder.path / "steps" / name).mkdir()
        (folder.path / "steps" / name / "state.safetensors").write_bytes(b"x")
    folder.tidy()
    assert not list((folder.path / "steps").iterdir()) and not folder.steps()
