"""Held-out bits per character beside PyTorch's peers after the same time, on the same characters.

    python -m benchmarks.peers TEXT... [--minutes 1.5] [--seeds 1]

Ours is `charrnn train` with default options but the budget, as a whole process. The peers are

- `lstm 2x128`: `nn.LSTM` of char-rnn's default shape (batch 50, window 50), with Adam and a cosine;
- `gpt 4x128`: a Transformer of the shape and settings of nanoGPT's recipe for CPUs (4 layers, 4 heads,
  128 wide, block 64, batch 12, AdamW from 1e-3 to 1e-4 after 100 steps, no dropout).

They read the ids that ours reads, split as ours splits them, and have as many seconds as our whole process took, from
its start to its end; their clock begins with their first step and stops while they are validated, ten times, of which
the best counts. They compute in bfloat16 (autocast) where some steps of that are faster than in float32. The LSTM is
scored with its state carried along; the Transformer with windows that overlap by half, of which the second halves
count, so that each character is told after at least 32 others.
"""

import argparse
import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import (
    CHARRNN,
    RESULTS,
    describe,
    facts_of,
    is_current,
    keep_trial,
    kept_trials,
    located,
    peers_version,
    run,
    write_result,
)

TRIALS = RESULTS / "peers.jsonl"
"""What was measured so far, an object a line; delete it to begin anew."""

PEERS = ("lstm 2x128", "gpt 4x128")
VALIDATIONS = 10
MOST_STREAMS, A_STREAM = 16, 4096
"""The held-out text is cut into so many streams for the LSTM, each so long or longer."""

TRIED_STEPS = 20


def row_of_ids(text: str, seed: int) -> tuple[Any, Any, int]:
    """The training and the held-out ids, a document's end among them, and how many ids there are."""
    import numpy as np

    from charrnn.config import DataConfig
    from charrnn.parts import split_as
    from charrnn.text.batches import Positions
    from charrnn.text.bundled import resolve_sources
    from charrnn.text.corpus import prepare
    from charrnn.text.selection import vocabulary_of
    from charrnn.training.recipe import resolve_val_fraction

    sources, documents = resolve_sources((text,), "auto")
    corpus = prepare(sources, documents=documents)
    parts = split_as(corpus, resolve_val_fraction(DataConfig(), corpus.characters), seed)
    vocabulary = vocabulary_of(parts.train, 1, None)
    rows = []
    for part, epoch in ((parts.train, 0), (parts.validation, None)):
        positions = Positions.of(part, vocabulary)
        rows.append(positions.look_up(np.arange(len(positions)), epoch).targets.astype(np.int64))
    return rows[0], rows[1], vocabulary.size


class LSTMPeer:
    """`nn.LSTM` under truncated backpropagation through time."""

    batch_size, window, peak, least, warmup = 50, 50, 5e-3, 5e-5, 0

    def __init__(self, train: Any, vocabulary_size: int):
        from torch import nn

        self.embedding = nn.Embedding(vocabulary_size, 128)
        self.lstm = nn.LSTM(128, 128, 2)
        self.head = nn.Linear(128, vocabulary_size)
        self.parts = nn.ModuleList([self.embedding, self.lstm, self.head])
        self.batch_size = max(1, min(self.batch_size, len(train) // (2 * self.window)))
        length = (len(train) - 1) // self.batch_size
        self.train = train[: length * self.batch_size].view(self.batch_size, length).T
        self.position, self.state = 0, None

    def optimizer(self) -> Any:
        """Adam, as PyTorch's scripts take it."""
        import torch

        return torch.optim.Adam(self.parts.parameters(), self.peak, fused=True)

    def _logits(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        outputs, state = self.lstm(self.embedding(inputs), state)
        return self.head(outputs), state

    def loss(self) -> Any:
        """Of the next window of every stream."""
        if self.position + 1 >= len(self.train):
            self.position, self.state = 0, None
        ids = self.train[self.position : self.position + self.window + 1]
        logits, state = self._logits(ids[:-1], self.state)
        self.position, self.state = self.position + self.window, tuple(part.detach() for part in state)
        return _cross_entropy(logits, ids[1:])

    def nats(self, held_out: Any) -> float:
        """Per character of the held-out text."""
        streams = max(1, min(MOST_STREAMS, len(held_out) // A_STREAM))
        length = len(held_out) // streams
        ids = held_out[: length * streams].view(streams, length).T
        total, state = 0.0, None
        for start in range(0, length - 1, 200):
            window = ids[start : start + 201]
            logits, state = self._logits(window[:-1], state)
            total += float(_cross_entropy(logits, window[1:])) * window[1:].numel()
        return total / ids[1:].numel()


class GPTPeer:
    """A Transformer that reads random windows."""

    batch_size, window, peak, least, warmup = 12, 64, 1e-3, 1e-4, 100

    def __init__(self, train: Any, vocabulary_size: int):
        import torch
        from torch import nn

        layer = nn.TransformerEncoderLayer(
            128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, bias=False
        )
        self.blocks = nn.TransformerEncoder(layer, 4, nn.LayerNorm(128, bias=False), enable_nested_tensor=False)
        self.embedding, self.places = nn.Embedding(vocabulary_size, 128), nn.Embedding(self.window, 128)
        self.head = nn.Linear(128, vocabulary_size, bias=False)
        self.parts = nn.ModuleList([self.embedding, self.places, self.blocks, self.head])
        for name, weights in self.parts.named_parameters():
            if weights.dim() == 2:
                residual = "linear2" in name or "out_proj" in name
                nn.init.normal_(weights, 0.0, 0.02 / math.sqrt(8) if residual else 0.02)
        self.head.weight = self.embedding.weight
        self.mask = nn.Transformer.generate_square_subsequent_mask(self.window)
        self.train, self.indices = train, torch.arange(self.window)

    def optimizer(self) -> Any:
        """AdamW, with decay of the matrices alone."""
        import torch

        parameters = list(self.parts.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, self.peak, (0.9, 0.99), fused=True)

    def _logits(self, ids: Any) -> Any:
        vectors = self.embedding(ids) + self.places(self.indices)
        return self.head(self.blocks(vectors, mask=self.mask, is_causal=True))

    def loss(self) -> Any:
        """Of a batch of random windows."""
        import torch

        starts = torch.randint(len(self.train) - self.window, (self.batch_size, 1))
        ids = self.train[starts + torch.arange(self.window + 1)]
        return _cross_entropy(self._logits(ids[:, :-1]), ids[:, 1:])

    def nats(self, held_out: Any) -> float:
        """Per character of the held-out text, each told after half a window or more."""
        import torch

        half = self.window // 2
        starts = torch.arange(0, len(held_out) - self.window - 1, half)[:, None]
        windows = held_out[starts + torch.arange(self.window + 1)]
        total = 0.0
        for some in windows.split(64):
            logits = self._logits(some[:, :-1])[:, half:]
            total += float(_cross_entropy(logits, some[:, 1 + half :])) * some.shape[0] * half
        return total / (len(windows) * half)


def _cross_entropy(logits: Any, targets: Any) -> Any:
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def take_step(peer: Any, optimizer: Any, narrow: bool) -> None:
    """One step of training, with `narrow` its products in bfloat16."""
    import torch

    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        loss = peer.loss()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(peer.parts.parameters(), 1.0)
    optimizer.step()


def is_faster_in_bfloat16(make: Callable[[], Any]) -> bool:
    """Whether some steps of a peer of its own take less time that way."""
    seconds = {}
    for narrow in (False, True):
        peer = make()
        optimizer = peer.optimizer()
        for begun in range(2 * TRIED_STEPS):
            if begun == TRIED_STEPS:
                started = time.perf_counter()
            take_step(peer, optimizer, narrow)
        seconds[narrow] = time.perf_counter() - started
    return seconds[True] < seconds[False]


def learn(
    peer: Any, held_out: Any, clock: Callable[[], float], seconds: float, narrow: bool = False
) -> tuple[float, int]:
    """Train until the clock says so; the best held-out nats and the steps taken."""
    import torch

    optimizer, taken, validated, best, away = peer.optimizer(), 0, 0, math.inf, 0.0
    while validated < VALIDATIONS:
        done = min(1.0, (clock() - away) / seconds)
        cosine = peer.least + (peer.peak - peer.least) * (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = cosine * min(1.0, (taken + 1) / (peer.warmup + 1))
        take_step(peer, optimizer, narrow)
        taken += 1
        if done * VALIDATIONS >= validated + 1:
            validated, before = int(done * VALIDATIONS), clock()
            peer.parts.eval()
            with torch.inference_mode():
                best = min(best, peer.nats(held_out))
            peer.parts.train()
            away += clock() - before
    return best, taken


def work(name: str, text: str, seconds: float, seed: int) -> None:
    """The process of one peer; prints what it reached."""
    import torch

    torch.manual_seed(seed)
    train, held_out, vocabulary_size = row_of_ids(text, seed)
    kind = LSTMPeer if name == PEERS[0] else GPTPeer
    make = partial(kind, torch.from_numpy(train), vocabulary_size)
    narrow, peer = is_faster_in_bfloat16(make), make()
    started = time.perf_counter()
    nats, steps = learn(peer, torch.from_numpy(held_out), lambda: time.perf_counter() - started, seconds, narrow)
    print(json.dumps({"bits": nats / math.log(2), "steps": steps, "precision": "bfloat16" if narrow else "float32"}))


def ours(text: str, minutes: float, seed: int) -> tuple[float, str, float]:
    """Bits per character of `charrnn train`, the network that it chose, and the seconds of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        budget = ("--minutes", f"{minutes:g}", "--seed", str(seed))
        fresh = {"CHARRNN_CACHE": f"{folder}/cache"}
        seconds = run(*CHARRNN, "train", text, *budget, "--quiet", cwd=Path(folder), environment=fresh).seconds
        facts, model = facts_of("runs", folder=folder), facts_of("show", folder=folder)["config"]["model"]
    return facts["bits_per_character"], f"{model['cell']} {model['num_layers']}x{model['hidden_size']}", seconds


def side_by_side(text: str, minutes: float, seed: int) -> dict[str, Any]:
    """Ours and each peer on a text, one after the other."""
    source = located(text)
    bits, network, seconds = ours(source, minutes, seed)
    trial = {
        "text": Path(text).name, "minutes": minutes, "seed": seed, "seconds": round(seconds, 1),
        "charrnn": round(bits, 4), "network": network,
    }  # fmt: skip
    for peer in PEERS:
        command = (sys.executable, "-m", "benchmarks.peers", source, "--work", peer)
        told = json.loads(run(*command, "--seconds", str(seconds), "--seed", str(seed)).output.splitlines()[-1])
        trial[peer], trial[f"{peer} in"] = round(told["bits"], 4), told["precision"]
    return trial


def table(trials: list[dict[str, Any]]) -> str:
    """All trials, by text."""
    lines = [
        f"{describe()}, {peers_version()}",
        "bits per held-out character; seconds: of our whole process, and of each peer's training",
        "",
    ]
    peers = " ".join(f"{peer:>10}" for peer in PEERS)
    lines.append(f"{'text':20} {'minutes':>7} {'seed':>4} {'seconds':>7}  {'charrnn':>8} {'network':12} {peers}")
    for trial in sorted(trials, key=lambda trial: (trial["text"], trial["minutes"], trial["seed"])):
        figures = " ".join(f"{trial[peer]:10.4f}" for peer in PEERS)
        where = f"{trial['text']:20} {trial['minutes']:7g} {trial['seed']:4} {trial['seconds']:7.1f}"
        ours = f"{trial['charrnn']:8.4f} {trial['network']:12}"
        lines.append(f"{where}  {ours} {figures}  {trial.get('note', '')}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """Let each learn each text with each seed and write the table, or be a peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(arguments.work, arguments.texts[0], arguments.seconds, arguments.seed)
    trials = kept_trials(TRIALS)
    done = {(trial["text"], trial["minutes"], trial["seed"]) for trial in filter(is_current, trials)}
    for text, seed in itertools.product(arguments.texts, range(arguments.seeds)):
        if (Path(text).name, arguments.minutes, seed) not in done:
            trials.append(side_by_side(text, arguments.minutes, seed))
            keep_trial(TRIALS, trials[-1])
    return write_result("peers.txt", table(trials))


if __name__ == "__main__":
    main()
