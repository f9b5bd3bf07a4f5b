"""What training tells whoever follows it."""

from dataclasses import dataclass

from charrnn.nn.network import Network
from charrnn.training.curve import Overfit
from charrnn.units import in_bits


@dataclass(frozen=True)
class Trained:
    """Some steps were taken. `loss` is their mean in nats per character, `spent` the share of the budget."""

    step: int
    epoch: float
    loss: float
    gradient_norm: float
    learning_rate: float
    characters_per_second: float
    elapsed: float
    spent: float


@dataclass(frozen=True)
class Validated:
    """The held-out text was read. `nats` per character at that temperature; `best` when none before was as low."""

    step: int
    epoch: float
    nats: float
    temperature: float
    best: bool
    elapsed: float
    network: Network

    @property
    def bits_per_character(self) -> float:
        """The figure people look at."""
        return in_bits(self.nats)


@dataclass(frozen=True)
class Saved:
    """The exact training state of a step is on disk."""

    step: int


@dataclass(frozen=True)
class Warned:
    """Something a person should know, that does not stop the run."""

    text: str


@dataclass(frozen=True)
class Slowed:
    """The validations no longer fell, so the learning rate was halved to this."""

    step: int
    learning_rate: float


@dataclass(frozen=True)
class Overfitted:
    """At the end: the text is being learnt by heart, the held-out text having become harder since the best step."""

    overfit: Overfit


@dataclass(frozen=True)
class Tested:
    """At the end: the best weights read the text kept back for a test, once. `nats` per character."""

    step: int
    best_step: int
    nats: float
    characters: int


@dataclass(frozen=True)
class Finished:
    """The end. `reason` is "budget", "patience" or "stopped" (asked to; the run can be resumed)."""

    step: int
    reason: str
    best_nats: float
    best_step: int
    elapsed: float


Event = Trained | Validated | Saved | Warned | Slowed | Overfitted | Tested | Finished
