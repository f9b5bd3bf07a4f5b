"""Starts `charrnn` processes quickly: it has imported everything, and each is a fork of it.

It must not have used JAX before it forks. It reads a JSON object a line: {"argv", "cwd", "env", "talk"}
starts a process, whose id it answers; {"wait"} answers how that ended. With "kill_at" in it the
process kills itself with SIGKILL at that call of those that change the disk, with "stall" each fsync takes
so many seconds; with "within" calls only count while the function of `charrnn.checkpoint.steps` of that name runs.
"""

import json
import os
import signal
import sys
import time
from typing import Any

from faulty import FaultySystem

import charrnn.cli.train
import charrnn.model
import charrnn.trainer  # noqa: F401 - imported once, for all forks
from charrnn.checkpoint import files, steps
from charrnn.cli.main import main


class Suicidal(FaultySystem):
    """Kills this very process at a call, or lets each fsync take `stall` seconds."""

    counting, stall = True, 0.0

    def _interfere(self, name: str, number: int, arguments: tuple[Any, ...]) -> None:
        if not self.counting:
            self.calls.pop()
        elif number == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        elif name == "fsync":
            time.sleep(self.stall)


def start(order: dict[str, Any]) -> None:
    """Be that process."""
    talk = os.open(order["talk"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - the driver has read from its own
    os.dup2(talk, 1)
    os.dup2(talk, 2)
    os.chdir(order["cwd"])
    os.environ.update(order.get("env", {}))
    if "kill_at" in order or "stall" in order:
        system: Any = Suicidal(at=order.get("kill_at", -1))
        system.stall = order.get("stall", 0.0)
        files.os = system
        if "within" in order:
            system.counting = False
            real = getattr(steps, order["within"])

            def counted(*arguments: Any) -> Any:
                system.counting = True
                try:
                    return real(*arguments)
                finally:
                    system.counting = False

            setattr(steps, order["within"], counted)
    sys.argv = ["charrnn", *order["argv"]]
    main()


for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        _, status = os.waitpid(order["wait"], 0)
        answer = os.waitstatus_to_exitcode(status)
    else:
        answer = os.fork()
        if not answer:
            code = 70
            try:
                start(order)
            except SystemExit as done:
                code = done.code if isinstance(done.code, int) else int(done.code is not None)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    print(answer, flush=True)
