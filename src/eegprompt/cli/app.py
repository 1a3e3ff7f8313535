"""The commands, and what happens when one fails.

Exit codes
----------
0 done; 1 an error of the program itself; 2 what was given cannot be used; 3 a package or a model
is missing; 4 the disk refused; 5 training cannot go on; 130 interrupted.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from eegprompt import __version__
from eegprompt.cli import ablation, audits, captions, console, runs, studies, whole
from eegprompt.core.errors import EegpromptError, StorageError

__all__ = ["app"]

_EPILOG = (
    "Exit codes: 0 done · 1 an error of the program itself · 2 what was given cannot be used · "
    "3 a package or a model is missing · 4 the disk refused · 5 training cannot go on · "
    "130 interrupted (the same command goes on where it stopped)."
)


class _Commands(TyperGroup):
    """Turns what a command raises into one sentence and an exit code.

    ``--debug`` may stand anywhere on the line, since one adds it to a line that has just failed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _unfold(self)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = [a for a in args[:end] if a != "--debug"] + args[end:]
            ctx.obj = {"debug": True}
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        debug = bool((ctx.obj or {}).get("debug") or os.environ.get("EEGPROMPT_DEBUG"))
        ctx.obj = {"debug": debug}
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            console.note(
                "Interrupted. What was finished is kept; the same command goes on where it stopped."
            )
            raise typer.Exit(130) from None
        except EegpromptError as error:
            _report(error, debug)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            # The reader of our output left (e.g. `| head`); nothing is wrong.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            raise typer.Exit(0) from None
        except OSError as error:
            _report(StorageError(f"the system refused to read or write: {error}"), debug)
            raise typer.Exit(StorageError.exit_code) from None
        except MemoryError:
            _report(
                EegpromptError(
                    "memory ran out; use a smaller batch size (training.batch_size=, "
                    "generation.batch_size=) or fewer trials"
                ),
                debug,
            )
            raise typer.Exit(1) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("typer", "click"):
                raise  # an exit, or a slip on the line that Typer explains itself
            text = str(error).splitlines()[0] if str(error) else "no message"
            _report(
                EegpromptError(
                    f"an error of the program itself ({type(error).__name__}: {text}); run the same "
                    "command with --debug and send what it prints to the project's issue page"
                ),
                debug,
            )
            raise typer.Exit(1) from None


def _unfold(group: Any) -> None:
    """Join the lines of each paragraph of the commands' help, which the screen folds by itself."""
    for command in group.commands.values():
        paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
        command.help = "\n\n".join(" ".join(p.split()) for p in paragraphs)
        if hasattr(command, "commands"):
            _unfold(command)


def _report(error: Exception, debug: bool) -> None:
    if debug:
        console.note(traceback.format_exc().rstrip())
    console.note(f"Error: {error}")


app = typer.Typer(
    name="eegprompt",
    cls=_Commands,
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"eegprompt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and what libraries log.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Decode what a person was looking at from their EEG, through words that can be read.

    A recording becomes a study ([bold]simulate[/bold] or [bold]import[/bold]), a study becomes a
    run ([bold]train[/bold], [bold]decode[/bold], [bold]generate[/bold], [bold]evaluate[/bold],
    [bold]report[/bold]). To see it all at once: [bold]eegprompt demo --out runs/demo[/bold]
    """
    console.quiet_libraries(bool(ctx.obj and ctx.obj.get("debug")))


studies.register(app)
audits.register(app)
captions.register(app)
runs.register(app)
whole.register(app)
ablation.register(app)
