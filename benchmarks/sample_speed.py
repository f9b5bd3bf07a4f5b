"""Characters drawn per second, ours beside PyTorch's, in one run; and what the command line makes of it.

    python -m benchmarks.sample_speed [--rounds 7] [--shapes NAME...]

Every contender is a process of its own that waits for its turn: round by round they take turns, each
for half a second, and the medians over the rounds are compared. A character is a step of an LSTM of 2
layers, the head, temperature 0.8 and a draw, V = 65, random weights. PyTorch loops over `nn.LSTM` or two
`nn.LSTMCell`s in inference mode, in float32 and with bfloat16 weights, on all cores and on one.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe, peers_version, run, write_result

VOCABULARY = 65
LAYERS = 2
TEMPERATURE = 0.8
ROUND_SECONDS = 0.5


@dataclass(frozen=True)
class Contender:
    """One way to draw from one shape."""

    library: str
    way: str
    hidden: int
    streams: int
    precision: str
    threads: int

    @property
    def name(self) -> str:
        """As the table shows it."""
        threads = f" {self.threads} thread{'s' * (self.threads > 1)}" if self.library == "torch" else ""
        return f"{self.library} {self.way} {self.precision}{threads}"


SHAPES = {"128x1": (128, 1, 14.0), "128x64": (128, 64, 3.0), "512x1": (512, 1, 2.5), "512x64": (512, 64, 2.0)}
"""Width, streams and the goal, the ratio to PyTorch's best."""


def charrnn_draw(contender: Contender) -> Callable[[], int]:
    """A function that draws some characters with ours, as `Model.sample` does, and returns how many."""
    from charrnn.generation.filters import Forbid, Temperature
    from charrnn.generation.prepared import prepare
    from charrnn.generation.texts import pieces
    from charrnn.training.devices import use_every_core

    use_every_core()
    network, _ = _model(contender.hidden)
    prepared = prepare(network, contender.precision)
    without_end = (Forbid((0,)), Temperature(TEMPERATURE))
    drawn = pieces(
        prepared, np.zeros(0, np.int32), without_end, seed=0, texts=contender.streams, length=2**30,
        precision=contender.precision,
    )  # fmt: skip
    return lambda: sum(len(piece.ids) for piece in islice(drawn, contender.streams))


def _model(hidden: int) -> tuple[Any, Any]:
    from charrnn.config import ModelConfig
    from charrnn.nn.network import create

    config = ModelConfig(num_layers=LAYERS, hidden_size=hidden, embedding_size=0, dropout=0.0)
    return create(config, VOCABULARY, 0), config


def torch_draw(contender: Contender) -> Callable[[], int]:
    """The same with PyTorch: one step a character, the state carried."""
    import torch

    torch.set_num_threads(contender.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, contender.precision)
    steps = 32 if contender.streams == 1 else 8
    table = torch.eye(VOCABULARY, dtype=dtype)
    head = torch.nn.Linear(contender.hidden, VOCABULARY).to(dtype)
    ids = torch.zeros(contender.streams, dtype=torch.long)
    zeros = torch.zeros(contender.streams, contender.hidden, dtype=dtype)
    if contender.way == "LSTM":
        network = torch.nn.LSTM(VOCABULARY, contender.hidden, LAYERS).to(dtype)
        state: Any = (zeros.repeat(LAYERS, 1, 1), zeros.repeat(LAYERS, 1, 1))
    else:
        sizes = [VOCABULARY] + [contender.hidden] * (LAYERS - 1)
        cells = [torch.nn.LSTMCell(size, contender.hidden).to(dtype) for size in sizes]
        state = [(zeros, zeros) for _ in cells]

    def step() -> Any:
        nonlocal state
        inputs = table[ids]
        if contender.way == "LSTM":
            outputs, state = network(inputs[None], state)
            return head(outputs[0])
        after = []
        for cell, before in zip(cells, state, strict=True):
            inputs, memory = cell(inputs, before)
            after.append((inputs, memory))
        state = after
        return head(inputs)

    def draw() -> int:
        nonlocal ids
        with torch.inference_mode():
            for _ in range(steps):
                shares = torch.softmax(step().float() / TEMPERATURE, -1)
                ids = torch.multinomial(shares, 1)[:, 0]
        return steps * contender.streams

    return draw


def work(contender: Contender) -> None:
    """The process of one contender: at every line read, a round."""
    draw = (charrnn_draw if contender.library == "charrnn" else torch_draw)(contender)
    for _ in range(8):
        draw()
    print("ready", flush=True)
    for _ in sys.stdin:
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < ROUND_SECONDS:
            count += draw()
        print(count / (time.perf_counter() - started), flush=True)


class Worker:
    """A contender's process, from outside."""

    def __init__(self, contender: Contender):
        command = (sys.executable, "-m", "benchmarks.sample_speed", "--work", json.dumps(asdict(contender)))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.contender, self.speeds = contender, list[float]()
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"{self.contender.name} ended early")
        return answer

    def take_turn(self) -> None:
        """One round."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.speeds.append(float(self._answer()))

    def leave(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    @property
    def speed(self) -> float:
        """Characters a second, the median over the rounds."""
        return statistics.median(self.speeds)


def contenders(hidden: int, streams: int, has_torch: bool) -> list[Contender]:
    """Ours in the precision that `charrnn sample` takes at that width; PyTorch's every way."""
    from charrnn.sampling import decode_precision

    ours = Contender("charrnn", "sample", hidden, streams, decode_precision(_model(hidden)[1]), 0)
    cores = os.cpu_count() or 1
    return [ours] + [
        Contender("torch", way, hidden, streams, precision, threads)
        for way in ("LSTM", "LSTMCell")
        for precision in ("float32", "bfloat16")
        for threads in dict.fromkeys((cores, 1))
        if has_torch
    ]


def compare(name: str, rounds: int, has_torch: bool) -> list[str]:
    """The table's rows for one shape."""
    hidden, streams, goal = SHAPES[name]
    workers = [Worker(contender) for contender in contenders(hidden, streams, has_torch)]
    for _ in range(rounds):
        for worker in workers:
            worker.take_turn()
    best = max((worker.speed for worker in workers if worker.contender.library == "torch"), default=float("nan"))
    lines = [f"2x{hidden}, {streams} stream{'s' * (streams > 1)}: the goal is {goal:g} times PyTorch's best"]
    for worker in workers:
        worker.leave()
        low, high = min(worker.speeds), max(worker.speeds)
        figures = f"{worker.speed:9,.0f} {low:9,.0f} {high:9,.0f} {worker.speed / best:7.2f}"
        lines.append(f"  {worker.contender.name:34} {figures}")
    return [*lines, ""]


def command_line(rounds: int) -> list[str]:
    """What `charrnn sample` delivers on long output beside the library, and how long whole processes take."""
    charrnn = (sys.executable, "-m", "charrnn")
    with tempfile.TemporaryDirectory() as folder:
        environment, place = {"CHARRNN_CACHE": f"{folder}/cache"}, Path(folder)
        run(*charrnn, "train", "fables", "--steps", "60", "--layers", "2", "--hidden", "128", "--quiet",
            cwd=place, environment=environment)  # fmt: skip
        draw = ("sample", "--ignore-eos", "--seed", "1", "--length")

        def seconds(*more: str, fresh: bool = False) -> float:
            caches = [{"CHARRNN_CACHE": f"{folder}/{k}"} if fresh else environment for k in range(rounds)]
            return statistics.median(run(*charrnn, *draw, *more, cwd=place, environment=own).seconds for own in caches)

        cold, warm = seconds("200", fresh=True), seconds("200")
        short, long = seconds("20000"), seconds("620000")
        script = (
            "import time, charrnn; m = charrnn.load(); o = dict(ignore_eos=True, seed=1)\n"
            "list(m.stream(length=20000, **o)); t = time.perf_counter(); list(m.stream(length=620000, **o))\n"
            "print(620000 / (time.perf_counter() - t))"
        )
        library = statistics.median(
            float(run(sys.executable, "-c", script, cwd=place, environment=environment).output.split()[-1])
            for _ in range(max(3, rounds // 2))
        )
    speed = 600_000 / (long - short)
    return [
        f"charrnn sample --length 200, whole process: {cold:.2f} s cold, {warm:.2f} s with compiled programs kept",
        f"charrnn sample, 2x128, long output: {speed:,.0f} characters a second, {speed / library:.0%} of the library's"
        f" {library:,.0f}",
    ]


def main() -> None:
    """Measure and write the table, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dry", action="store_true", help="print the table and keep nothing")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(Contender(**json.loads(arguments.work)))
    has_torch = importlib.util.find_spec("torch") is not None
    lines = [f"{describe()}, {peers_version()}", ""]
    lines.append(f"{'':36} {'chars/s':>9} {'slowest':>9} {'fastest':>9} {'/ torch':>7}")
    lines.append(f"{'':36} {'(median)':>9} {'':>9} {'':>9} {'best':>7}")
    for name in arguments.shapes:
        lines += compare(name, arguments.rounds, has_torch)
        print("\n".join(lines[-10:]), flush=True)
    lines += command_line(arguments.rounds)
    if arguments.dry:
        return print("\n".join(lines[-2:]))
    return write_result("sample_speed.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
