"""The figures of a score, for people and for programs."""

import json
import math
from typing import Any

import click
import numpy as np

from charrnn.cli.progress import progress_bar
from charrnn.generation.dynamic import DEFAULT_RATES, Rates
from charrnn.scoring.figures import perplexity_of
from charrnn.scoring.protocols import score_dynamic, score_stateful, score_windows
from charrnn.scoring.text import ReadyText
from charrnn.units import in_bits

_WINDOWS = 1000


def facts_of(
    model: Any, text: ReadyText, nats: np.ndarray | None, streams: int, precision: str, options: dict[str, Any]
) -> dict[str, Any]:
    """Score a text by the protocol asked for. nats: of every position, where they are known already."""
    facts: dict[str, Any] = {
        "file": text.name, "protocol": options["protocol"], "characters": len(text) - text.ends, "ends": text.ends,
        "unknown": sum(text.unknown.values()), "bytes": text.bytes, "precision": precision,
    }  # fmt: skip
    with progress_bar("scoring") as progress:
        if options["protocol"] == "windows":
            count, seed = options["windows"] or _WINDOWS, options["seed"] or 0
            windows = score_windows(model.network, text, count, seed, precision, progress)
            facts |= {"windows": windows.windows, "seed": seed}
            facts |= _means(windows.nats_per_character, text) | {"standard_error_bits": in_bits(windows.error)}
        else:
            score = (
                score_stateful(model.network, text, streams, precision, progress)
                if nats is None
                else text.score(float(nats.sum(dtype=np.float64)))
            )
            facts |= {"streams": streams, "nats": score.nats} | _means(score.nats_per_character, text)
    if options["dynamic"]:
        facts["dynamic"] = _dynamic(model, text, options)
    return facts


def _dynamic(model: Any, text: ReadyText, options: dict[str, Any]) -> dict[str, Any]:
    rates = Rates(
        options["dynamic_rate"] or DEFAULT_RATES.learning,
        DEFAULT_RATES.decay if options["dynamic_decay"] is None else options["dynamic_decay"],
    )
    with progress_bar("learning as it reads") as progress:
        score = score_dynamic(model.network, text, rates, progress)
    return {"rate": rates.learning, "decay": rates.decay, "nats": score.nats} | _means(score.nats_per_character, text)


def _means(nats: float, text: ReadyText) -> dict[str, float]:
    """The figures that follow from the mean nats a character."""
    bits = in_bits(nats)
    return {
        "bits_per_character": bits, "nats_per_character": nats, "perplexity": perplexity_of(nats),
        "bits_per_byte": bits * len(text) / max(text.bytes, 1),
    }  # fmt: skip


def one_line(facts: dict[str, Any]) -> str:
    """The result in short."""
    size, dynamic = facts["characters"], facts.get("dynamic")
    over = f"{size:,} character{'s' * (size != 1)}{_ends(facts)}"
    learning = f", {dynamic['bits_per_character']:.3f} where the model goes on learning as it reads" if dynamic else ""
    return f"{facts['bits_per_character']:.3f} bits per character over {over}{learning}"


def echo(facts: dict[str, Any], as_json: bool) -> None:
    """Write the figures."""
    if as_json:
        click.echo(json.dumps(_writable(facts), ensure_ascii=False, allow_nan=False))
        return
    for name, value in _rows(facts):
        click.echo(f"{name:22}{value}")


def _writable(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as JSON can hold them: null for what is no number, or none that can be written."""
    return {
        name: _writable(value) if isinstance(value, dict) else None if _is_no_number(value) else value
        for name, value in facts.items()
    }


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _ends(facts: dict[str, Any]) -> str:
    """How many ends of documents count too."""
    return f" and {facts['ends']:,} end{'s' * (facts['ends'] != 1)} of documents" if facts["ends"] else ""


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    if facts["protocol"] == "windows":
        how = f"windows: the mean over {facts['windows']:,} cold starts of 256 characters, seed {facts['seed']}"
        error = f" ± {facts['standard_error_bits']:.3f}" if facts["windows"] > 1 else ""
    else:
        streams = facts["streams"]
        how, error = f"stateful: one pass, {streams} stream{'s' * (streams != 1)}", ""
    rows = [
        ("bits per character", f"{facts['bits_per_character']:.3f}{error}"),
        ("nats per character", f"{facts['nats_per_character']:.4f}"),
        ("perplexity", f"{facts['perplexity']:.3f}"),
        ("bits per byte", f"{facts['bits_per_byte']:.3f}"),
        ("characters", f"{facts['characters']:,}{_ends(facts)}"),
        ("unknown", f"{facts['unknown']:,}"),
        ("protocol", how),
    ]
    if dynamic := facts.get("dynamic"):
        rows.append(("dynamic evaluation", "the model goes on learning as it reads:"))
        rows.append(("  bits per character", f"{dynamic['bits_per_character']:.3f}"))
        rows.append(("  nats per character", f"{dynamic['nats_per_character']:.4f}"))
    return rows
