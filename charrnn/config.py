"""What a run is made from: frozen dataclasses whose fields carry their bounds and their help.

The command line makes its options from these fields and the Python API takes them as keyword
arguments, so every option has one name, one default and one check.
"""

import dataclasses
import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from charrnn.errors import ConfigError
from charrnn.fields import check_fields, option

Cell = Literal[
    "rnn", "rnn-relu", "lstm", "lstm-peephole", "lstm-coupled", "mogrifier-lstm",
    "gru", "gru-reset-after", "gru-simple", "mgu", "sru", "mingru", "minlstm",
]  # fmt: skip
Size = Literal["auto", "tiny", "small", "medium", "large"]
Precision = Literal["auto", "float32", "bfloat16"]
Optimizer = Literal["muon", "adamw", "adam", "sgd"]
DecodeErrors = Literal["strict", "replace", "ignore"]

DEFAULT_VAL_FRACTION = 0.1
"""Of the text is held out for validation where nothing else is said."""

_WITH_OUTPUT_GATE = ("lstm", "lstm-peephole", "lstm-coupled", "mogrifier-lstm", "sru")
_WITHOUT_GATES = ("rnn", "rnn-relu")
WITHOUT_RECURRENT_MATRIX = ("sru", "mingru", "minlstm")


@dataclass(frozen=True)
class DataConfig:
    """How files become documents and documents become characters."""

    documents: str = option(
        "auto",
        "What a document is: file, line, paragraph, auto, or any other text, which then separates documents.",
        metavar="STYLE",
    )
    min_count: int = option(1, "Characters seen less often than this in the training part become UNK.", minimum=1)
    max_vocab: int | None = option(None, "Keep at most this many characters, the most frequent ones.", minimum=1)
    val_fraction: float | None = option(
        None, "Share of the text held out for validation: a tenth, but no more than a million characters.", above=0.0,
        below=1.0,
    )  # fmt: skip
    test_fraction: float = option(
        0.0, "Share of the text kept back for a last test: training never looks at it.", minimum=0.0, below=1.0
    )
    encoding: str = option("utf-8", "The files' text encoding.", metavar="NAME")
    errors: DecodeErrors = option("strict", "What to do with bytes that are not text in that encoding.")


@dataclass(frozen=True)
class ModelConfig:
    """The network's shape. `embedding_size` 0 feeds characters in as one-hot vectors."""

    cell: Cell = option("lstm", "The recurrent cell.")
    num_layers: int = option(1, "Number of recurrent layers.", flag="--layers", minimum=1, maximum=64)
    hidden_size: int | None = option(None, "Hidden units a layer.", flag="--hidden", minimum=1, maximum=65536)
    embedding_size: int | None = option(
        None, "Width of the character embedding; 0 is one-hot.", flag="--embedding", minimum=0, maximum=65536
    )
    dropout: float | None = option(None, "Share of units dropped between layers and before the head.", minimum=0.0,
                                   below=1.0)  # fmt: skip
    variational: bool = option(False, "Drop the same units throughout a window (Gal & Ghahramani 2016).")
    weight_drop: float | None = option(
        None, "Share of the recurrent weights dropped, anew for every window (Merity 2017).", minimum=0.0, below=1.0,
        cells=tuple(cell for cell in get_args(Cell) if cell not in WITHOUT_RECURRENT_MATRIX),
    )  # fmt: skip
    residual: bool = option(False, "Add each layer's input to its output, from the second layer on.")
    forget_bias: float | None = option(
        None, "Initial bias towards keeping the state: 1 for the LSTMs, 0 for the others when not given.",
        minimum=-20.0, maximum=20.0, cells=tuple(cell for cell in get_args(Cell) if cell not in _WITHOUT_GATES),
    )  # fmt: skip
    output_bias: float | None = option(
        None, "Initial bias of the output gate, for sru of its highway gate; 0 when not given.",
        minimum=-20.0, maximum=20.0, cells=_WITH_OUTPUT_GATE,
    )  # fmt: skip
    mogrifier_rounds: int | None = option(
        None, "Rounds in which input and state gate each other; 5 when not given.", minimum=0, maximum=100,
        cells=("mogrifier-lstm",),
    )  # fmt: skip
    mogrifier_rank: int | None = option(
        None, "Rank of the rounds' matrices; 32 when not given.", minimum=1, maximum=65536, cells=("mogrifier-lstm",)
    )


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast and how carefully to learn. Of the three budgets the first to end wins."""

    size: Size = option("auto", "One dial: the width, and what follows from it, dropout and learning rate.")
    epochs: float | None = option(None, "Budget: passes over the training part.", above=0.0, maximum=1e9)
    steps: int | None = option(None, "Budget: optimizer steps.", minimum=1, maximum=2**31 - 1)
    minutes: float | None = option(None, "Budget: minutes of training.", above=0.0, maximum=1e9)
    seq_length: int | None = option(None, "Characters a window of backpropagation spans.", minimum=1, maximum=100_000)
    batch_size: int | None = option(None, "Streams of text read side by side.", minimum=1, maximum=100_000)
    optimizer: Optimizer = option("adamw", "The optimizer; muon learns more a step, and its steps are longer.")
    learning_rate: float | None = option(
        None, "Peak learning rate of the matrices between hidden units; without an embedding the rest learns faster.",
        above=0.0, maximum=10.0,
    )  # fmt: skip
    warmup: float = option(
        0.05, "Share of the budget (of 2,000 steps without one) over which the learning rate rises.", minimum=0.0,
        below=1.0,
    )  # fmt: skip
    weight_decay: float = option(0.01, "Decoupled weight decay of the weight matrices.", minimum=0.0, maximum=10.0)
    ema: float = option(
        0.12, "Validate and keep the weights' moving average over this share of the steps so far; 0 takes the last.",
        minimum=0.0, maximum=1.0,
    )  # fmt: skip
    clip_norm: float = option(1.0, "Gradients are scaled down to this global norm.", above=0.0)
    reset_rate: float = option(
        0.0005, "Chance at each character of one long document to start again from the zero state.", minimum=0.0,
        maximum=1.0,
    )  # fmt: skip
    precision: Precision = option("auto", "Number format of the matrix products; sums stay float32.")
    seed: int = option(0, "Seed of everything random.", minimum=0, maximum=2**32 - 1)
    patience: int = option(
        0, "Stop after this many validations without a new best; 0 never does. Without a budget, halve the learning "
        "rate first, for as long as that helps.", minimum=0,
    )  # fmt: skip
    eval_every: int | None = option(None, "Steps between validations.", minimum=1)
    sample_every: int = option(1, "Validations between samples shown while training; 0 shows none.", minimum=0)
    checkpoint_every: float = option(2.0, "Minutes between saved steps.", minimum=0.0)

    @property
    def has_budget(self) -> bool:
        """Whether there is a budget; without one the validations decide how long to go on."""
        return any(budget is not None for budget in (self.epochs, self.steps, self.minutes))


WIDEST_BEAM = 10_000


@dataclass(frozen=True)
class SampleConfig:
    """How text is drawn from a model."""

    temperature: float = option(
        0.8, "0 always takes the likeliest character; higher is wilder.", flag="--temp", minimum=0.0, maximum=1e9
    )
    length: int = option(1000, "Stop after this many characters if no end of text was drawn.", minimum=0,
                         maximum=2**30)  # fmt: skip
    min_length: int = option(
        0, "No end of text is drawn before so many characters; --stop ends one all the same.", minimum=0
    )
    top_k: int = option(0, "Draw from the K likeliest characters; 0 is all.", minimum=0)
    top_p: float = option(1.0, "Draw from the likeliest characters that together hold this share.", above=0.0,
                          maximum=1.0)  # fmt: skip
    min_p: float = option(0.0, "Leave out characters less likely than this share of the likeliest.", minimum=0.0,
                          maximum=1.0)  # fmt: skip
    repeat_penalty: float = option(
        1.0, "Make the characters of the last --repeat-window less likely by this factor; 1 leaves them.", minimum=0.01,
        maximum=100.0,
    )  # fmt: skip
    repeat_window: int = option(64, "How many characters back --repeat-penalty looks.", minimum=1, maximum=10**9)
    no_repeat: int = option(
        0, "Never repeat a run of N characters, while another may follow; 0 does not care.", minimum=0, maximum=1000
    )
    stop: tuple[str, ...] = option((), "End a text before this appears; may be given several times.", metavar="TEXT")
    allow: str | None = option(None, "Draw these characters alone.", metavar="CHARS")
    forbid: str = option("", "Never draw these characters.", metavar="CHARS")
    regex: str | None = option(
        None, "Draw only texts that as a whole, prompt included, match this pattern.", metavar="PATTERN"
    )
    seed: int | None = option(None, "Seed of the draw; a fresh one when not given.", minimum=0, maximum=2**32 - 1)
    ignore_eos: bool = option(False, "Go on to the full length: the end of text is never drawn.")
    allow_unk: bool = option(False, "Let the unknown character be drawn (shown as U+FFFD).")


@dataclass(frozen=True)
class Origin:
    """The run that another started from: its folder or weights file, and the SHA-256 of those weights."""

    run: str
    weights: str


@dataclass(frozen=True)
class RunConfig:
    """Everything that made a run, as `config.json` holds it.

    whole_documents: whether documents were learnt whole, each with an EOS; None in runs older than this field.
    """

    corpus: tuple[str, ...]
    corpus_hash: str
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    versions: dict[str, str]
    init_from: Origin | None = None
    whole_documents: bool | None = None

    @property
    def documents_end(self) -> bool:
        """Whether the model learnt where documents end (with EOS)."""
        return self.data.documents != "file" if self.whole_documents is None else self.whole_documents

    def to_json(self) -> str:
        """This configuration as indented JSON text; `from_json` is its inverse."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Read what `to_json` wrote.

        Raises ConfigError when the text is not such a configuration or a value is out of bounds.
        """
        try:
            raw = json.loads(text)
            config = cls(
                corpus=tuple(raw["corpus"]),
                corpus_hash=raw["corpus_hash"],
                data=DataConfig(**raw["data"]),
                model=ModelConfig(**raw["model"]),
                training=TrainingConfig(**raw["training"]),
                versions=dict(raw["versions"]),
                init_from=Origin(**raw["init_from"]) if raw.get("init_from") else None,
                whole_documents=raw.get("whole_documents"),
            )
            _check_facts(config)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"not a run's configuration: {error}") from error
        for part in (config.data, config.model, config.training):
            validate(part)
        return config


def _check_facts(config: RunConfig) -> None:
    """Raise ValueError where what a run is said to be made from is not written as texts."""
    origin = (config.init_from.run, config.init_from.weights) if config.init_from else ()
    texts = (*config.corpus, config.corpus_hash, *config.versions.values(), *origin)
    if not all(isinstance(text, str) for text in texts) or not isinstance(config.whole_documents, bool | None):
        raise ValueError("corpus, corpus_hash, versions or init_from")


def validate(config: Any) -> None:
    """Check a configuration: each field against its type, choices and bounds, then what they make together.

    Raises ConfigError naming the option, what is allowed and what was given.
    """
    check_fields(config)
    if isinstance(config, ModelConfig):
        _check_model(config)
    if isinstance(config, DataConfig):
        _check_data(config)
    if isinstance(config, SampleConfig):
        _check_sample(config)


def _check_data(config: DataConfig) -> None:
    validation = DEFAULT_VAL_FRACTION if config.val_fraction is None else config.val_fraction
    if validation + config.test_fraction >= 1:
        raise ConfigError(
            f"--test-fraction {config.test_fraction:g} and --val-fraction {validation:g} leave no text to learn"
        )


def _check_model(config: ModelConfig) -> None:
    if config.cell == "mogrifier-lstm" and config.embedding_size == 0:
        raise ConfigError("--cell mogrifier-lstm gates its input vectors, so --embedding must be at least 1")
    if config.variational and config.dropout == 0:
        raise ConfigError("--variational is a way to drop units, so --dropout must be above 0")
    if config.residual and config.num_layers == 1:
        raise ConfigError("--residual needs --layers 2 or more")


_LONGEST_REMEMBERED = 1_000_000
_LONGEST_LEAST = 100_000
TOO_DEEP = "--regex: the pattern's parentheses are nested too deeply"


def _check_sample(config: SampleConfig) -> None:
    if config.min_length > config.length:
        raise ConfigError(f"--min-length {config.min_length:,} is more than --length {config.length:,}")
    if config.repeat_window != SampleConfig.repeat_window and config.repeat_penalty == 1:
        raise ConfigError("--repeat-window says where --repeat-penalty looks: give that too, such as 1.2")
    if config.regex is not None and config.min_length > _LONGEST_LEAST:
        raise ConfigError(f"--regex: give a --min-length of at most {_LONGEST_LEAST:,}")
    if config.no_repeat and config.length > _LONGEST_REMEMBERED:
        raise ConfigError(f"--no-repeat remembers a whole text: give a --length of at most {_LONGEST_REMEMBERED:,}")
    if config.regex is not None:
        _check_pattern(config.regex)
    if "" in config.stop:
        raise ConfigError("--stop needs a text; it is empty")
    if config.allow == "":
        raise ConfigError("--allow needs some characters; it is empty")
    if config.regex is not None and (config.ignore_eos or config.stop or config.allow_unk):
        other = "--ignore-eos" if config.ignore_eos else "--stop" if config.stop else "--allow-unk"
        raise ConfigError(f"--regex says what a text is and where it ends; leave {other} out")


def _check_pattern(regex: str) -> None:
    try:
        # What Python may read otherwise one day it warns of, in lines that are not for people.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            re.compile(regex)
    except RecursionError:
        raise ConfigError(TOO_DEEP) from None
    except (re.error, OverflowError, ValueError) as error:  # a number that is too large, flags that exclude each other
        raise ConfigError(f"--regex: {regex!r} is not a regular expression ({error})") from error


def from_options(config_class: type, options: dict[str, Any], *, ignore: Iterable[str] = ()) -> Any:
    """Build and check a configuration from the matching entries of `options`.

    Entries that are None leave the field's default; raises ConfigError as `validate` does.
    """
    names = {field.name for field in dataclasses.fields(config_class)} - set(ignore)
    config = config_class(**{name: options[name] for name in names & set(options) if options[name] is not None})
    validate(config)
    return config
