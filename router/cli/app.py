"""The commands: check, explain, route, status, create-all, unique, recover, demo.

Exit codes: 0 all is well, 1 there are findings, 2 the command could not run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated

import typer

from router.cli.loading import default_config, find_metadata, find_statement, key_of
from router.cli.output import as_json, plan_as_dict, print_problems, print_report, print_statuses
from router.cli.recovery import listed, print_recovery, recovered
from router.cli.status import statuses
from router.errors import RouterError
from router.router import Router


class Exit(IntEnum):
    """What the exit code tells."""

    FINE = 0
    FINDINGS = 1
    FAILED = 2


class Action(StrEnum):
    """What is done with the lookup table of a unique key."""

    BACKFILL = "backfill"
    VERIFY = "verify"


app = typer.Typer(
    help="Sharding for SQLAlchemy: look at a shard map and its databases.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The map; $ROUTER_CONFIG, then config/shards.yaml."),
]
Metadata = Annotated[
    str | None,
    typer.Option("--metadata", help="package.module:attribute with a MetaData or a base class."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def check(config: Config = None, metadata: Metadata = None, json: Json = False) -> None:
    """Compare the map with the databases; exit with 1 if something differs."""
    with opened(config, metadata) as router:
        problems = router.check()
    if json:
        as_json([{"id": p.id, "what": p.what, "where": p.where, "fix": p.fix} for p in problems])
    else:
        print_problems(problems)
    raise typer.Exit(Exit.FINDINGS if problems else Exit.FINE)


@app.command()
def route(
    keyspace: Annotated[str, typer.Argument(help="A sharded keyspace.")],
    key: Annotated[list[str], typer.Argument(help="The key, one word for each column.")],
    config: Config = None,
    metadata: Metadata = None,
    text: Annotated[bool, typer.Option("--text", help="The key is text.")] = False,
    json: Json = False,
) -> None:
    """Name the shard and the database of a key."""
    with opened(config, metadata) as router:
        found = router.wiring.sharded(keyspace)
        home = router.wiring.home(found, key_of(key, router.wiring.key_types(found), text))
    if json:
        as_json({"keyspace": keyspace, "key": key, "shard": home.shard, "database": home.database})
    else:
        typer.echo(str(home))


@app.command()
def explain(
    statement: Annotated[str, typer.Argument(help="module:statement, or SQL text.")],
    config: Config = None,
    metadata: Metadata = None,
    json: Json = False,
) -> None:
    """Show where a statement goes and how its answer is made; nothing is executed."""
    with opened(config, metadata) as router:
        plan = router.explain(find_statement(statement))
    if json:
        as_json(plan_as_dict(plan))
    else:
        typer.echo(str(plan))
    raise typer.Exit(Exit.FINDINGS if plan.refusal is not None else Exit.FINE)


@app.command()
def status(config: Config = None, json: Json = False) -> None:
    """Show every database: whether it answers, its version, what lives there."""
    with opened(config, None) as router:
        found = statuses(router)
    if json:
        as_json([one.as_dict() for one in found])
    else:
        print_statuses(found)
    raise typer.Exit(Exit.FINE if all(one.reachable for one in found) else Exit.FINDINGS)


@app.command("create-all")
def create_all(
    metadata: Annotated[str, typer.Option("--metadata", help="package.module:attribute")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Create every table that is missing, in the databases where the map puts it."""
    with opened(config, metadata) as router:
        router.create_all()
        tables = sorted(table for one in router.wiring.metadata.values() for table in one.tables)
    if json:
        as_json({"tables": tables})
    else:
        typer.echo(f"{len(tables)} tables are in place: {', '.join(tables)}")


@app.command()
def unique(
    action: Annotated[Action, typer.Argument(help="Fill a lookup table, or compare it.")],
    name: Annotated[str, typer.Argument(help="An entry of `unique:`.")],
    metadata: Annotated[str, typer.Option("--metadata", help="package.module:attribute")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Fill the lookup table of a unique key beside live traffic, or verify it."""
    with opened(config, metadata) as router:
        act = router.backfill_unique if action is Action.BACKFILL else router.verify_unique
        report = act(name)
    if json:
        as_json(asdict(report))
    else:
        print_report(report)
    raise typer.Exit(Exit.FINDINGS if report.wrong else Exit.FINE)


@app.command()
def recover(
    config: Config = None,
    only_list: Annotated[bool, typer.Option("--list", help="Show what is in doubt.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as --list.")] = False,
    watch: Annotated[
        float | None, typer.Option("--watch", help="Go on, every so many seconds.", min=0.1)
    ] = None,
    json: Json = False,
) -> None:
    """Settle transactions over several databases that crashes have left in doubt."""
    with opened(config, None) as router:
        open_ones = recover_now(router, only_list or dry_run, json)
        while watch is not None:
            time.sleep(watch)
            open_ones = recover_now(router, only_list or dry_run, json)
    raise typer.Exit(Exit.FINDINGS if open_ones else Exit.FINE)


def recover_now(router: Router, only_list: bool, json: bool) -> int:
    """Recover once, or list; print it and return how many are still open."""
    rows = listed(router.in_doubt()) if only_list else recovered(router.recover())
    if json:
        as_json([asdict(row) for row in rows])
    else:
        print_recovery(rows)
    return sum(row.open for row in rows)


@app.command()
def demo(
    reset: Annotated[bool, typer.Option("--reset", help="Load the data anew.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Keep the servers until Enter.")] = False,
) -> None:
    """Take a tour over real servers and real data: 336,776 flights on four shards."""
    from router.demo.tour import run

    with failing_clearly():
        run(reset=reset, wait=wait)


@contextmanager
def opened(config: Path | None, metadata: str | None) -> Iterator[Router]:
    """Open the router of the command, and turn its errors into exit code 2."""
    with failing_clearly():
        found = find_metadata(metadata) if metadata is not None else None
        with Router.from_yaml(config or default_config(), metadata=found) as router:
            yield router


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Print an error of ours without a traceback and exit with 2; Ctrl-C exits with 130."""
    try:
        yield
    except RouterError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(Exit.FAILED) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error
