"""Dynamic evaluation beside the plain figure: held-out text, a model that goes on learning as it reads.

    python -m benchmarks.dynamic TEXT... [--minutes 0.5] [--seeds 1]

TEXT is a file or the name of a bundled text. A default run of each is trained for so long; then its held-out part is
scored both ways, dynamically with the default rates, which were chosen on tinyshakespeare.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.machine import CHARRNN, describe, facts_of, located, run, write_result


def main() -> None:
    """Train, score both ways and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    lines = [
        describe(),
        f"charrnn train TEXT --minutes {arguments.minutes:g}, then charrnn score --part validation --dynamic;"
        " nats per character",
        "",
        f"{'text':20} {'seed':>4} {'characters':>10} {'plain':>8} {'dynamic':>8}",
    ]
    for text in arguments.texts:
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                options = ("--minutes", str(arguments.minutes), "--seed", str(seed), "--quiet")
                run(*CHARRNN, "train", located(text), *options, cwd=Path(folder))
                facts = facts_of("score", "--part", "validation", "--dynamic", folder=folder)
            plain, dynamic = facts["nats_per_character"], facts["dynamic"]["nats_per_character"]
            name = Path(text).name
            lines.append(f"{name:20} {seed:4} {facts['characters']:10,} {plain:8.4f} {dynamic:8.4f}")
            print(lines[-1], flush=True)
    write_result("dynamic.txt", "\n".join(lines))


if __name__ == "__main__":
    main()
