"""The application that the commands belong to."""

from __future__ import annotations

import typer

from compression.errors import CompressionError

app = typer.Typer(
    help="Make a model small and fast, and see what it costs: measured.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Interrupted(CompressionError):
    """Ended by Ctrl-C, with something to say about it."""
