"""Fine-tuning against training from nothing, on the same text for the same minutes.

python -m benchmarks.fine_tuning BASE NEW [--base-minutes 1] [--minutes 0.25 0.5] [--seeds 2]

BASE and NEW are texts or names of bundled ones. The two take turns, each a whole process with default
options but the budget (and the document style of the base, so that both read the same held-out text).
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.machine import CHARRNN, describe, facts_of, located, run, write_result


def validations(folder: Path, name: str) -> list[dict[str, float]]:
    """The validations of a run, in their order."""
    return list(facts_of("show", name, folder=folder)["validations"])


def main() -> None:
    """Train the base once a seed, then both ways with each budget, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("new")
    parser.add_argument("--base-minutes", type=float, default=1.0)
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    lines = [
        describe(),
        f"base {Path(arguments.base).name} for {arguments.base_minutes:g} minutes, then {Path(arguments.new).name}",
        "nats per character on the held-out part of the new text, best of the run",
        "",
        f"{'seed':>4} {'minutes':>7} {'before':>8} {'tuned':>8} {'new':>8}",
    ]
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            same = ("--seed", str(seed), "--documents", "file", "--quiet")
            base = ("--run", "base", "--minutes", str(arguments.base_minutes))
            run(*CHARRNN, "train", located(arguments.base), *same, *base, cwd=folder)
            for minutes in arguments.minutes:
                curves = {}
                for name, options in (("tuned", ("--init-from", "base")), ("new", ())):
                    name_and_budget = ("--run", f"{name}-{minutes}", "--minutes", str(minutes))
                    run(*CHARRNN, "train", located(arguments.new), *same, *name_and_budget, *options, cwd=folder)
                    curves[name] = [event["nats"] for event in validations(folder, f"{name}-{minutes}")]
                tuned, new = curves["tuned"], curves["new"]
                lines.append(f"{seed:4} {minutes:7g} {tuned[0]:8.4f} {min(tuned):8.4f} {min(new):8.4f}")
    write_result("fine_tuning.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
