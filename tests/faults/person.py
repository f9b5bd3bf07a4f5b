"""What the tests of bad input and wrong use share: a text, a run too small to wait for, and the program in process."""

from click.testing import CliRunner

from charrnn.cli.main import cli

RHYME = "the cat sat on the mat and the dog sat on the log.\n"
FAST = ("--hidden", "8", "--seq-length", "8", "--batch-size", "2", "--steps", "2", "--precision", "float32",
        "--dropout", "0", "--embedding", "0", "--quiet")  # fmt: skip


def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """The program's exit code and what it said on the standard error."""
    done = CliRunner().invoke(cli, arguments, input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stderr
