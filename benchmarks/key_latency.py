"""How long a key waits in `charrnn complete` until it is seen, while the model works out what stands ahead.

    python -m benchmarks.key_latency RUN [--checkpoints DIR] [--keys 200]

Digits are typed in a pseudo-terminal at a person's pace, 60 to 240 ms apart, so that the model is asked anew after
most of them. The time is from the key's writing to the reading of the digit among what the program writes.
"""

import argparse
import fcntl
import os
import pty
import random
import select
import statistics
import struct
import subprocess
import termios
import time

from benchmarks.machine import CHARRNN, describe, write_result

WHERE, HERE = b"\x1b[6n", b"\x1b[1;1R"
"""A terminal is asked where its cursor is, and answers."""


def read(master: int, seconds: float) -> bytes:
    """What is written within that time, at least until something was."""
    if not select.select([master], [], [], seconds)[0]:
        return b""
    written = os.read(master, 1 << 16)
    if WHERE in written:
        os.write(master, HERE)
    return written


def drained(master: int, seconds: float) -> None:
    """Read what is written in that time."""
    until = time.perf_counter() + seconds
    while (left := until - time.perf_counter()) > 0:
        read(master, left)


def latencies(master: int, keys: int) -> list[float]:
    """Seconds that each key waited."""
    chosen, waited = random.Random(0), []
    for number in range(keys):
        drained(master, chosen.uniform(0.06, 0.24))
        digit, started = b"%d" % (number % 10), time.perf_counter()
        os.write(master, digit)
        while digit not in read(master, 5.0):
            pass
        waited.append(time.perf_counter() - started)
    return waited


def main() -> None:
    """Type, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--checkpoints", default="checkpoints")
    parser.add_argument("--keys", type=int, default=200)
    arguments = parser.parse_args()
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = (*CHARRNN, "complete", arguments.run, "--checkpoints", arguments.checkpoints)
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "xterm"}
    )
    os.close(slave)
    try:
        drained(master, 15)  # the model is loaded and its programs compiled
        waited = sorted(latencies(master, arguments.keys))
    finally:
        process.kill()
        process.wait()
    centiles = [("median", 0.5), ("95 of 100", 0.95), ("99 of 100", 0.99), ("longest", 1.0)]
    rows = [
        f"{name:10} {1e3 * waited[min(len(waited) - 1, int(share * len(waited)))]:6.1f} ms" for name, share in centiles
    ]
    mean = f"{'mean':10} {1e3 * statistics.mean(waited):6.1f} ms"
    write_result(
        "key_latency.txt", "\n".join([describe(), f"{len(waited)} keys in `charrnn complete`", "", *rows, mean])
    )


if __name__ == "__main__":
    main()
