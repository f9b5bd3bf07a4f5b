"""Training characters per second and peak memory, ours beside PyTorch's, in one run.

    python -m benchmarks.train_speed [--rounds 7] [--shapes NAME...]

Every contender is a process of its own that waits for its turn: round by round they take turns, each
for about a second, and the medians over the rounds are compared. A step is forward, backward, clip
and Adam on random ids, V = 65. PyTorch reads one-hot vectors with `nn.LSTM` or `nn.GRU`, in float32
and under bfloat16 autocast. Ours has the environment that `charrnn train` gives itself, and like it
keeps its compiled programs: the peak memory is of a process that found them, and beside it that of the
one that compiled them.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.machine import describe, peers_version, write_result
from charrnn.cli.pages import SETTING

VOCABULARY = 65
ROUND_SECONDS = 1.0
MOST_STEPS, SECONDS_A_CALL = 16, 0.25
"""As many steps a call as the training loop takes."""


@dataclass(frozen=True)
class Contender:
    """One way to train one shape."""

    library: str
    cell: str
    layers: int
    hidden: int
    batch: int
    window: int
    precision: str

    @property
    def name(self) -> str:
        """As the table shows it."""
        return f"{self.library} {self.cell} {self.precision}"


@dataclass(frozen=True)
class Shape:
    """A network and a batch, our cells for it, whose library and cell they are compared with, and the goal."""

    layers: int
    hidden: int
    batch: int
    window: int
    cells: tuple[str, ...]
    beside: tuple[str, str]
    goal: str
    precisions: tuple[str, ...] = ("float32", "bfloat16")

    def contenders(self) -> list[Contender]:
        """Ours and the one beside them, in each precision."""
        size = (self.layers, self.hidden, self.batch, self.window)
        rows = [*(("charrnn", cell) for cell in self.cells), self.beside]
        return [Contender(*row, *size, precision) for row in rows for precision in self.precisions]


SHAPES = {
    "lstm-2x128": Shape(2, 128, 50, 50, ("lstm",), ("torch", "lstm"), "1.2 times its best"),
    "lstm-2x512": Shape(2, 512, 64, 128, ("lstm",), ("torch", "lstm"), "1.3 times its best, 2 times its float32"),
    "lstm-1x1024": Shape(1, 1024, 64, 128, ("lstm",), ("torch", "lstm"), "1.8 times its float32"),
    "gru-2x512": Shape(2, 512, 64, 128, ("gru", "gru-reset-after"), ("torch", "gru"), "2 times its float32"),
    "mingru-2x512": Shape(
        2, 512, 64, 512, ("mingru",), ("charrnn", "lstm"), "1.5 times our LSTM", precisions=("bfloat16",)
    ),
}


def charrnn_steps(contender: Contender) -> Callable[[], int]:
    """A function that takes some training steps of ours, in one call as the training loop does, and counts them."""

    from charrnn.training.devices import keep_compiled_programs, use_every_core

    use_every_core()
    keep_compiled_programs()
    from charrnn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
    from charrnn.text.batches import Batch
    from charrnn.training.memory import give_back_freed_memory
    from charrnn.training.step import StepSettings, initial_state, place, stack, train_steps

    model = ModelConfig(
        cell=contender.cell, num_layers=contender.layers, hidden_size=contender.hidden, embedding_size=0, dropout=0.0
    )  # type: ignore[arg-type]
    training = TrainingConfig(
        batch_size=contender.batch,
        seq_length=contender.window,
        precision=contender.precision,
        weight_decay=0.0,
        ema=0.0,
    )  # type: ignore[arg-type]
    config = RunConfig(("random",), "", DataConfig(), model, training, {})
    settings = StepSettings.of(config)
    inputs, targets = _ids(contender)
    batches = stack([Batch(inputs, targets, np.zeros_like(inputs, bool))] * MOST_STEPS, MOST_STEPS)
    rates, state = np.full(MOST_STEPS, 1e-3, np.float32), place(initial_state(config, VOCABULARY), settings)
    state, _, _ = train_steps(state, batches, rates, np.int32(0), settings)  # as the loop does before its first step
    give_back_freed_memory()
    count = 1

    def steps() -> int:
        nonlocal state, count
        taken, started = count, time.perf_counter()
        state, losses, _ = train_steps(state, batches, rates, np.int32(taken), settings)
        float(losses[0])
        count = max(1, min(MOST_STEPS, int(SECONDS_A_CALL * taken / (time.perf_counter() - started))))
        return taken

    return steps


def torch_step(contender: Contender) -> Callable[[], int]:
    """The same for PyTorch, a step a call."""
    import torch

    torch.manual_seed(0)
    network = getattr(torch.nn, contender.cell.upper())(VOCABULARY, contender.hidden, contender.layers)
    head = torch.nn.Linear(contender.hidden, VOCABULARY)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    inputs, targets = (torch.from_numpy(ids).long() for ids in _ids(contender))
    zeros = torch.zeros(contender.layers, contender.batch, contender.hidden)
    state = (zeros, zeros) if contender.cell == "lstm" else zeros

    def step() -> int:
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=contender.precision == "bfloat16"):
            vectors = torch.nn.functional.one_hot(inputs, VOCABULARY).float()
            outputs, after = network(vectors, state)
            logits = head(outputs)
        loss = torch.nn.functional.cross_entropy(logits.float().view(-1, VOCABULARY), targets.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        parts = after if isinstance(after, tuple) else (after,)
        detached = tuple(part.detach().float() for part in parts)
        state = detached if isinstance(after, tuple) else detached[0]
        loss.item()
        return 1

    return step


def _ids(contender: Contender) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (contender.window + 1, contender.batch), np.int32)
    return ids[:-1], ids[1:]


def work(contender: Contender) -> None:
    """The process of one contender: at every line read, a round; at the end, its peak memory."""
    step = (charrnn_steps if contender.library == "charrnn" else torch_step)(contender)
    for _ in range(3):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        steps, started = 0, time.perf_counter()
        while steps < 2 or time.perf_counter() - started < ROUND_SECONDS:
            steps += step()
        print((time.perf_counter() - started) / steps, flush=True)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, flush=True)


class Worker:
    """A contender's process, from outside."""

    def __init__(self, contender: Contender, cache: str):
        command = (sys.executable, "-m", "benchmarks.train_speed", "--work", json.dumps(asdict(contender)))
        ours = {**os.environ, "GLIBC_TUNABLES": SETTING, "CHARRNN_CACHE": cache}
        environment = ours if contender.library == "charrnn" else None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.contender, self.seconds = contender, list[float]()
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
        self.seconds.append(float(self._answer()))

    def leave(self) -> float:
        """End the process; its peak memory in MiB."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return float(self._answer())

    @property
    def speed(self) -> float:
        """Characters a second, the median over the rounds."""
        return self.contender.batch * self.contender.window / statistics.median(self.seconds)


def matrix_product_peaks() -> str:
    """What the machine's products reach at best, through JAX, in GFLOP/s."""
    import jax
    import jax.numpy as jnp

    peaks = []
    for precision in ("float32", "bfloat16"):
        size, best = 1024, float("inf")
        matrix = jnp.ones((size, size), precision)
        multiply = jax.jit(lambda a: jax.lax.dot(a, a, preferred_element_type=jnp.float32))
        multiply(matrix).block_until_ready()
        for _ in range(20):
            started = time.perf_counter()
            multiply(matrix).block_until_ready()
            best = min(best, time.perf_counter() - started)
        peaks.append(f"{precision} {2 * size**3 / best / 1e9:.0f}")
    return "product of two 1024x1024 matrices, GFLOP/s at best: " + ", ".join(peaks)


def compare(name: str, shape: Shape, rounds: int, has_torch: bool, cache: str) -> list[str]:
    """Let a shape's contenders take turns; the lines of the table. Programs that are not in the cache are compiled."""
    contenders = [contender for contender in shape.contenders() if has_torch or contender.library != "torch"]
    at_first = {one: Worker(one, cache).leave() for one in contenders if one.library == "charrnn"}
    workers = [Worker(contender, cache) for contender in contenders]
    for _ in range(rounds):
        for worker in workers:
            worker.take_turn()
    beside = [worker for worker in workers if (worker.contender.library, worker.contender.cell) == shape.beside]
    best = max((worker.speed for worker in beside), default=None)
    float32 = next((worker.speed for worker in beside if worker.contender.precision == "float32"), None)
    lines = [f"{name}: batch {shape.batch}, window {shape.window}; the goal is {shape.goal}"]
    for worker in workers:
        memory, low, high = worker.leave(), min(worker.seconds), max(worker.seconds)
        per, ratios = shape.batch * shape.window, (_ratio(worker.speed, base) for base in (best, float32))
        lines.append(
            f"  {worker.contender.name:34} {worker.speed:9,.0f} {per / high:9,.0f} {per / low:9,.0f}"
            f" {' '.join(ratios)} {memory:8.0f} {format(at_first.get(worker.contender, memory), '8.0f')}"
        )
    return [*lines, ""]


def _ratio(speed: float, base: float | None) -> str:
    return f"{'-' if base is None else format(speed / base, '.2f'):>7}"


def main() -> None:
    """Measure and write the table, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dry", action="store_true", help="print the table and keep nothing, as with --shapes")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(Contender(**json.loads(arguments.work)))
    has_torch = importlib.util.find_spec("torch") is not None
    lines = [f"{describe()}, {peers_version()}", matrix_product_peaks(), ""]
    lines.append(
        f"{'':36} {'chars/s':>9} {'slowest':>9} {'fastest':>9} {'/ peer':>7} {'/ peer':>7} {'peak':>8} {'if it':>8}\n"
        f"{'':36} {'(median)':>9} {'':>9} {'':>9} {'best':>7} {'float32':>7} {'MiB':>8} {'compiles':>8}"
    )
    with tempfile.TemporaryDirectory() as cache:
        for name in arguments.shapes:
            block = compare(name, SHAPES[name], arguments.rounds, has_torch, cache)
            print("\n".join(block), flush=True)
            lines += block
    if arguments.dry or arguments.shapes != list(SHAPES):
        return None
    return write_result("train_speed.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
