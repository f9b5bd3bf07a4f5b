"""The `charrnn` program, and `python -m charrnn`."""

import signal
import sys


def main() -> None:
    """Start the command line; until it is there, an interrupt ends the program without a word."""
    if sys.platform == "win32":  # whose locks, signals and terminals are others
        sys.exit("charrnn runs on Linux and macOS; on Windows it runs in WSL: `wsl --install` sets that up")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from charrnn.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
