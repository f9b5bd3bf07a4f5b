"""What is said of a training in words: what was chosen for it, and what its end means."""

import math

from charrnn.config import WITHOUT_RECURRENT_MATRIX, RunConfig, TrainingConfig
from charrnn.text.documents import STYLES
from charrnn.trainer import Job
from charrnn.training.curve import Overfit
from charrnn.training.recipe import MOST_DROPOUT, MOST_WEIGHT_DROP
from charrnn.units import in_bits

_MORE_DROPOUT = 0.2


def describe(job: Job) -> str:
    """One line: what is learnt, by what network, with which settings."""
    config, task = job.task.config, job.task
    model, training = config.model, config.training
    count, style = len(job.corpus.spans), job.corpus.style
    documents = f"{count:,} {style if style in STYLES else 'separated'} document{'s' * (count != 1)}"
    embedding = f", embedding {model.embedding_size}" if model.embedding_size else ""
    optimizer = "" if training.optimizer == "adamw" else f" {training.optimizer}"
    schedule = "cosine" if training.has_budget else "halved on a plateau"
    parts = [part for part in (task.train, task.validation, task.test) if part is not None]
    return " · ".join(
        (
            f"{sum(len(part.positions) for part in parts):,} characters in {documents}",
            f"{task.vocabulary.size - 2:,} distinct",
            f"{model.cell} {model.num_layers}x{model.hidden_size}{embedding}",
            f"batch {training.batch_size}x{training.seq_length}{optimizer}",
            f"rate {training.learning_rate:.3g}, {schedule}",
            f"dropout {model.dropout:g}" + (f", of weights {model.weight_drop:g}" if model.weight_drop else ""),
            training.precision,
            describe_budget(job),
        )
    )


def describe_budget(job: Job) -> str:
    """The budgets, such as `5 minutes or 60 epochs`, or the patience that stands in for one."""
    training = job.task.config.training
    if not training.has_budget:
        return f"until {training.patience} validations bring nothing"
    return " or ".join(f"{value:,.12g} {name}" for name, value in _budgets(training).items())


def _budgets(training: TrainingConfig) -> dict[str, float]:
    """The budgets that a run has."""
    budgets = {"steps": training.steps, "minutes": training.minutes, "epochs": training.epochs}
    return {name: value for name, value in budgets.items() if value}


def describe_nothing_left(job: Job, reason: str) -> str:
    """That a run has nothing more to do, its "budget" or "patience" having ended, and how to give it more."""
    training = job.task.config.training
    if reason == "patience":
        other = "--patience 0" if training.has_budget else "--patience 0 with --minutes"
        return f"its patience of {training.patience} validations has ended: give it a larger --patience, or {other}"
    return (
        f"it has had its {describe_budget(job)}, counted from its beginning: "
        "give it a larger --minutes, --epochs or --steps"
    )


def describe_overfit(overfit: Overfit, config: RunConfig) -> str:
    """What happened after the best step, and what would help, for the options that this run may still turn.

    A narrower network is not among them: in `benchmarks/results/sizes.txt` wider ones with more dropout did better.
    """
    best, last = overfit.best, overfit.last
    worse = f"the held-out text got worse ({in_bits(best.validation):.3f} to {in_bits(last.validation):.3f} bits)"
    if not math.isfinite(best.training):  # the validation before the first step of fine-tuning
        return (
            f"{worse} from the first step on: what it started from reads it better, and those weights are kept. "
            f"What would help: a lower --learning-rate than {config.training.learning_rate:.2g}, more text"
        )
    learnt = f" ({in_bits(best.training):.3f} to {in_bits(last.training):.3f})"
    remedies = ["more text"]
    if (dropout := config.model.dropout or 0.0) < MOST_DROPOUT:
        remedies.append(f"--dropout {min(MOST_DROPOUT, dropout + _MORE_DROPOUT):g}")
    if (
        config.model.cell not in WITHOUT_RECURRENT_MATRIX
        and (drop := config.model.weight_drop or 0.0) < MOST_WEIGHT_DROP
    ):
        remedies.append(f"--weight-drop {min(MOST_WEIGHT_DROP, drop + _MORE_DROPOUT):g}")
    if not config.training.patience:
        budget = "".join(f" --{name} {value:.12g}" for name, value in _budgets(config.training).items())
        remedies.append(f"stopping sooner (--patience 5{budget})")
    return (
        f"overfitting since step {best.step:,}: {worse} while the training text was learnt by heart{learnt}. "
        f"The weights of step {best.step:,} are kept. What would help: {', '.join(remedies)}"
    )


def describe_nothing_learnt(job: Job) -> str:
    """That a model is of no use yet, and what would help."""
    task = job.task
    return (
        "it has learnt nothing that a count of the characters does not say "
        f"({in_bits(task.nats_of_frequencies):.3f} bits): give it longer, or where the loss does not fall a lower "
        f"--learning-rate than {task.config.training.learning_rate:g}"
    )
