"""The command line: one verb, one library call."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; the process ends with one of the documented exit codes."""
    from eegprompt.cli.app import app

    app(prog_name="eegprompt")
