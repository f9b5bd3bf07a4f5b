"""The `charrnn` program, and `python -m charrnn`."""

import signal


def main() -> None:
    """Start the command line; until it is there, an interrupt ends the program without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from charrnn.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
