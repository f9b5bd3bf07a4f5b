"""The `charrnn` command. Starting it imports neither JAX nor NumPy; the commands do when they run."""

import os
import sys
from typing import Any

import click

from charrnn import __version__
from charrnn.cli.bench import bench
from charrnn.cli.complete import complete
from charrnn.cli.inspect import corpora, runs, show
from charrnn.cli.next import next_
from charrnn.cli.pages import start_again_with_huge_pages
from charrnn.cli.sample import sample
from charrnn.cli.score import score
from charrnn.cli.train import train
from charrnn.cli.write import write
from charrnn.errors import CharrnnError


class Refusal(click.ClickException):
    """One line about what a person can mend, with the library's exit code."""

    def __init__(self, error: CharrnnError):
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc] # Click declares it on the class, for subclasses to set


class Commands(click.Group):
    """Turns the library's errors into one line and an exit code, and lists commands in working order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a person meets them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what a person can mend is shown without a traceback."""
        try:
            return super().invoke(ctx)
        except CharrnnError as error:
            raise Refusal(error) from error
        except BrokenPipeError:  # what reads our output (`| head`) has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="charrnn")
def cli() -> None:
    """Learn a text character by character, then write more of it.

    \b
      charrnn train corpus.txt      learn a text (try: charrnn train fables)
      charrnn sample                draw new text from the newest run
      charrnn complete              type, and the model goes on
      charrnn score FILE            say how surprising a text is
    """


for command in (train, sample, complete, write, score, next_, runs, show, corpora, bench):
    cli.add_command(command)


def main() -> None:
    """The entry point. An interrupt exits 130."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up chatter from XLA
    if sys.argv[1:2] == ["train"]:
        start_again_with_huge_pages()
    try:
        code = cli.main(prog_name="charrnn", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    sys.exit(code)
