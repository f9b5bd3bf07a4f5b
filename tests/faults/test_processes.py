"""Real processes, killed and signalled at random moments; afterwards everything is as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from charrnn.checkpoint import RunFolder, load_weights
from charrnn.cli import pages

Record = Callable[[str, object, str], None]
HERE = Path(__file__).parent
RHYME = "the cat sat on the mat and the dog sat on the log.\n"
TRAIN = ["train", "rhyme.txt", "--run", "rhyme", "--hidden", "8", "--seq-length", "8", "--batch-size", "4",
         "--dropout", "0.2", "--precision", "float32", "--eval-every", "100", "--sample-every", "0",
         "--checkpoint-every", "0"]  # fmt: skip
STEPS = 3000


class Processes:
    """`charrnn` processes, started quickly (see driver.py)."""

    def __init__(self, place: Path):
        self.place = place
        path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
        # With the pages set already no fork starts itself again: it would become another driver.
        self.environment = {**os.environ, "PYTHONPATH": path, "JAX_NUMPY_DTYPE_PROMOTION": "standard",
                            "JAX_NUM_CPU_DEVICES": "1", "GLIBC_TUNABLES": pages.SETTING}  # fmt: skip
        self._driver = subprocess.Popen(
            [sys.executable, str(HERE / "driver.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=self.environment,
        )  # fmt: skip

    def start(self, cwd: Path, argv: list[str], **order: Any) -> int:
        """Start a process; returns its id."""
        return self._ask({"argv": argv, "cwd": str(cwd), "talk": str(cwd / "talk"), **order})

    def wait(self, pid: int) -> int:
        """How it ended: its exit code, or less than 0 for a signal."""
        return self._ask({"wait": pid})

    def run(self, cwd: Path, argv: list[str]) -> None:
        """A process that must end well."""
        code = self.wait(self.start(cwd, argv))
        assert code == 0, (cwd / "talk").read_text()

    def close(self) -> None:
        """End the driver."""
        self._driver.stdin.close()
        self._driver.wait(30)
        self._driver.stdout.close()

    def _ask(self, order: dict[str, Any]) -> int:
        self._driver.stdin.write(json.dumps(order) + "\n")
        self._driver.stdin.flush()
        return int(self._driver.stdout.readline())


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp("processes"))
    yield processes
    processes.close()


def training(steps: int = STEPS) -> list[str]:
    """The command of these runs."""
    return [*TRAIN, "--steps", str(steps)]


def place_for(processes: Processes, name: str) -> Path:
    """An empty folder with the text."""
    place = processes.place / name
    place.mkdir()
    (place / "rhyme.txt").write_text(RHYME * 60, "utf-8")
    return place


def outcome(place: Path) -> dict[str, Any]:
    """All that a run ends in, but for the clock."""
    folder = RunFolder(place / "checkpoints" / "rhyme")
    newest = folder.saved_steps()[-1]
    progress = json.loads((newest.path / "progress.json").read_text())
    progress.pop("elapsed")
    clock = ("elapsed", "characters_per_second")
    metrics = [{key: value for key, value in event.items() if key not in clock} for event in folder.metrics()]
    state = {f"state {name}": array.tobytes() for name, array in load_file(newest.path / "state.safetensors").items()}
    best = {f"best {name}": array.tobytes() for name, array in load_file(folder.path / "model.safetensors").items()}
    return {"step": newest.step, "progress": json.dumps(progress), "metrics": metrics, **state, **best}


@pytest.fixture(scope="module")
def unbroken(processes: Processes) -> tuple[dict[str, Any], float]:
    """What a run ends in that nobody disturbed, and how many seconds it took."""
    place = place_for(processes, "unbroken")
    processes.run(place, training())  # compiles
    shutil.rmtree(place / "checkpoints")
    started = time.monotonic()
    processes.run(place, training())
    return outcome(place), time.monotonic() - started


def go_on(processes: Processes, place: Path) -> None:
    """The same command once more, to the end; where it was killed after its end there is nothing to do."""
    folder = RunFolder(place / "checkpoints" / "rhyme")
    argv = training()
    if folder.path.exists() and (saved := folder.saved_steps()) and saved[-1].step == STEPS:
        argv = ["train", "--resume"]
    processes.run(place, argv)


@pytest.mark.faults
def test_killed_at_random_moments(processes: Processes, unbroken: Any, record: Record, seed: int) -> None:
    expected, seconds = unbroken
    chosen, mid_run = random.Random(seed), 0
    for number in range(50):
        place = place_for(processes, f"killed-{number}")
        pid = processes.start(place, training())
        time.sleep(chosen.uniform(0.1, seconds))
        os.kill(pid, signal.SIGKILL)
        processes.wait(pid)
        folder = RunFolder(place / "checkpoints" / "rhyme")
        mid_run += folder.path.exists() and 0 < (folder.steps() or [0])[-1] < STEPS
        go_on(processes, place)
        assert outcome(place) == expected, f"try {number}"
        shutil.rmtree(place)
    record("kill -9 at random moments of training", 50, f"50 resumed to the same bits ({mid_run} were killed mid-run)")


@pytest.mark.faults
def test_killed_again_and_again_while_resuming(processes: Processes, unbroken: Any, record: Record, seed: int) -> None:
    expected, seconds = unbroken
    chosen, place, kills = random.Random(seed), place_for(processes, "resuming"), 0
    pid = processes.start(place, training())
    while kills < 20:
        time.sleep(chosen.uniform(0.1, 0.6 * seconds))
        os.kill(pid, signal.SIGKILL)
        if processes.wait(pid) == 0:  # it had come to its end
            assert outcome(place) == expected
            shutil.rmtree(place / "checkpoints")
        else:
            kills += 1
        pid = processes.start(place, training())
    processes.wait(pid)
    assert outcome(place) == expected
    record("kill -9 during resume, one after the other", 20, "ends in the same bits")


@pytest.mark.faults
@pytest.mark.parametrize(("within", "fault"), [("discard", "removal of old steps"), ("save", "a save")])
def test_killed_at_a_call(
    processes: Processes, unbroken: Any, record: Record, seed: int, within: str, fault: str
) -> None:
    expected, _ = unbroken
    chosen = random.Random(seed)
    for number in range(20):
        place = place_for(processes, f"{within}-{number}")
        pid = processes.start(
            place, training(), kill_at=chosen.randrange(7 if within == "discard" else 40), within=within
        )
        assert processes.wait(pid) == -signal.SIGKILL, (place / "talk").read_text()
        go_on(processes, place)
        assert outcome(place) == expected, f"try {number}"
        shutil.rmtree(place)
    record(f"kill -9 during {fault}, at a random call", 20, "20 resumed to the same bits")


@pytest.mark.faults
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_signals_at_random_moments(
    processes: Processes, unbroken: Any, record: Record, seed: int, number: signal.Signals, code: int
) -> None:
    expected, seconds = unbroken
    chosen, slowest, saved = random.Random(seed), 0.0, 0
    for attempt in range(20):
        place = place_for(processes, f"{number.name}-{attempt}")
        pid = processes.start(place, training())
        time.sleep(chosen.uniform(0.5, seconds))
        started = time.monotonic()
        os.kill(pid, number)
        ended = processes.wait(pid)
        talk = (place / "talk").read_text()
        over = ended == 0 and "bits per character" in talk  # the signal came after the end
        assert ended == code or over or ended == -number, talk
        saved += "Stopped and saved at step" in talk
        assert ended != -number or not (place / "checkpoints").exists(), talk  # it came before the program listened
        slowest = max(slowest, time.monotonic() - started)
        go_on(processes, place)
        assert outcome(place) == expected, f"try {attempt}"
        shutil.rmtree(place)
    assert slowest < 10 and saved
    record(
        f"{number.name} at random moments",
        20,
        f"exit {code} within {slowest:.1f} s, then the same bits ({saved} came mid-run and saved)",
    )


@pytest.mark.faults
def test_a_second_signal_leaves_at_once(processes: Processes, unbroken: Any, record: Record) -> None:
    expected, _ = unbroken
    for attempt in range(5):
        place = place_for(processes, f"second-{attempt}")
        pid = processes.start(place, training(), stall=60.0, within="save")  # it cannot save and go
        metrics = place / "checkpoints" / "rhyme" / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.01)
        os.kill(pid, signal.SIGINT)
        time.sleep(1.5)
        assert not finished(pid), (place / "talk").read_text()
        started = time.monotonic()
        os.kill(pid, signal.SIGINT)
        assert processes.wait(pid) == 130 and time.monotonic() - started < 2
        assert "Stopped at once" in (place / "talk").read_text()
        go_on(processes, place)
        assert outcome(place) == expected
        shutil.rmtree(place)
    record("a second Ctrl-C while the disk hangs in a save", 5, "leaves at once, exit 130; then the same bits")


def finished(pid: int) -> bool:
    """Whether a process has ended (and only waits to be waited for)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.faults
def test_two_trainers_at_once(processes: Processes, unbroken: Any, record: Record) -> None:
    expected, _ = unbroken
    for attempt in range(20):
        place = place_for(processes, f"two-{attempt}")
        pids = [processes.start(place, training(), talk=str(place / f"talk-{k}")) for k in range(2)]
        codes = [processes.wait(pid) for pid in pids]
        talks = [(place / f"talk-{k}").read_text() for k in range(2)]
        assert sorted(codes) in ([0, 1], [0, 2]), talks
        refused = talks[codes.index(max(codes))]
        assert f"process {pids[codes.index(0)]} on " in refused or "exists" in refused, refused
        assert "Traceback" not in refused and outcome(place) == expected
        shutil.rmtree(place)
    record("two trainers at once", 20, "exactly one runs; the other is told who does")


def test_reading_while_training_saves(folder: RunFolder, full: bool, record: Record) -> None:
    from faulty import CONFIG, VOCABULARY

    from charrnn.nn.network import create, named_arrays, with_arrays

    network = create(CONFIG.model, VOCABULARY.size, 1)
    loads, stop, versions = 1000 if full else 100, threading.Event(), set()

    def save(version: int) -> None:
        filled = {name: np.full(array.shape, version, np.float32) for name, array in named_arrays(network).items()}
        folder.save_weights(with_arrays(network, filled), {"step": version})

    def write() -> None:
        version = 0
        while not stop.is_set():
            save(version := version + 1)

    save(0)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(loads):
            _, _, loaded, validation = load_weights(folder.path)
            values = {float(value) for array in named_arrays(loaded).values() for value in np.unique(array)}
            assert values == {float(validation["step"])}
            versions.add(validation["step"])
    finally:
        stop.set()
        writer.join()
    assert len(versions) > 5
    record(
        "reading weights while they are replaced without pause",
        loads,
        f"no error, no mixed version ({len(versions)} versions were read)",
    )
