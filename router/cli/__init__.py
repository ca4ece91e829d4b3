"""The `router` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from router.cli.app import app

    app()
