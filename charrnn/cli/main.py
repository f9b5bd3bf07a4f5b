"""The `charrnn` command. Starting it imports neither JAX nor NumPy; the commands do when they run."""

import codecs
import contextlib
import gc
import io
import os
import sys
from typing import Any, NoReturn

import click

from charrnn import __version__
from charrnn.cli.bench import bench
from charrnn.cli.complete import complete
from charrnn.cli.inspect import corpora, runs, show
from charrnn.cli.next import next_
from charrnn.cli.pages import start_again_with_huge_pages
from charrnn.cli.sample import sample
from charrnn.cli.score import score
from charrnn.cli.stop import Stopped, hear_interrupts
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
            _say_no_more()
            return 0
        except OSError as error:  # the disk, the folder or the terminal, where nobody nearer knew better
            what = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{what}{error.strerror or error}") from error
        except Exception as error:
            if not _out_of_memory(error):
                raise
            from charrnn.checkpoint.arrays import first_line

            raise click.ClickException(f"not enough memory ({first_line(error)})") from error


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
    gc.disable()  # importing JAX makes 200,000 objects that stay; to look through them again and again took 0.2 s
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA talks to who develops it; what fails is raised
    if sys.argv[1:2] == ["train"]:
        start_again_with_huge_pages()
    _open_streams()
    try:
        hear_interrupts()
        code = cli.main(prog_name="charrnn", standalone_mode=False) or 0
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        _leave_at_once(130)
    except Stopped:
        _leave_at_once(143)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:
        _say_no_more()
        code = 0
    except OSError as error:  # the last of the output could not be written
        _say_no_more()
        click.echo(f"Error: the standard output cannot be written ({error.strerror})", err=True)
        code = 1
    sys.exit(code)


def _leave_at_once(code: int) -> NoReturn:
    """End the program where work may be under way beside it: taking JAX down in an orderly way would crash then."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _open_streams() -> None:
    """Give the standard streams what they may lack: a file where one is closed, an encoding that knows every text.

    Bytes of the standard input that are no text become U+FFFD.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as we run
    replaced = "backslashreplace"
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, replaced), (sys.stderr, replaced)):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"  # the C locale: nobody chose it
            stream.reconfigure(encoding="utf-8" if ascii_only else stream.encoding, errors=errors)


def _say_no_more() -> None:
    """Send what is still to be written nowhere, so that the end of the program does not stumble over it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
