"""What the demo shows, step by step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from sqlalchemy import func, select, text
from sqlalchemy.orm import joinedload

from router.demo import data
from router.demo.load import load
from router.demo.models import Airline, Flight, Plane, Weather
from router.demo.servers import MAP, marker, servers
from router.errors import RouterError
from router.router import Router

WIDTH = 80
BAR = 30
PLANE = "N14228"


def run(*, reset: bool, wait: bool) -> None:
    """Start the servers, load the data if need be, and walk through the steps."""
    console = Console(highlight=False, width=WIDTH if not Console().is_terminal else None)
    console.print("Starting two PostgreSQL servers with five databases ...")
    with servers(reset=reset) as (router, environment):
        fill(router, console)
        for number, (title, step) in enumerate(STEPS, 1):
            console.rule(f"[bold]{number}. {title}", align="left")
            step(router, console)
        _go_on(console)
        if wait:
            for name, value in environment.items():
                console.print(f"export {name}={value}", markup=False)
            console.input("The servers run until you press Enter. ")


def fill(router: Router, console: Console) -> None:
    """Load the data set unless an earlier run has completed it."""
    if marker().exists():
        _tidy(router)
        return
    columns = (
        TextColumn("loading flights"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=data.FLIGHTS)
        load(router, lambda count: progress.advance(task, count))
        progress.update(task, completed=data.FLIGHTS)
    marker().touch()


def where(router: Router, console: Console) -> None:
    """Count the flights of every shard and draw them."""
    counts = {}
    for shard, database in router.wiring.sharded("air").shards.items():
        with router.engines[database].connect() as connection:
            counts[shard] = connection.execute(
                select(func.count(Flight.id), func.count(Flight.tailnum))
            ).one()
    most = max(total for total, _ in counts.values())
    table = Table("shard", "flights", "without tail number", "", box=None)
    for shard, (total, named) in counts.items():
        bar = "█" * round(BAR * total / most)
        table.add_row(shard, f"{total:,}", f"{total - named:,}", f"[cyan]{bar}")
    console.print(table)
    console.print(f"{sum(total for total, _ in counts.values()):,} flights in all")


def lookup(router: Router, console: Console) -> None:
    """Read a plane's flights, with their airline from the shard's own copy."""
    statement = (
        select(Flight)
        .join(Plane, Plane.tailnum == Flight.tailnum)
        .options(joinedload(Flight.airline))
        .where(Plane.tailnum == PLANE)
        .order_by(Flight.departed)
        .limit(3)
    )
    _sql(statement, router, console)
    console.print(str(router.target(statement)), markup=False)
    with router.sessionmaker()() as session:
        table = Table("departed", "from", "to", "airline", box=None)
        for flight in session.scalars(statement):
            departed = f"{flight.departed:%Y-%m-%d %H:%M}"
            table.add_row(departed, flight.origin, flight.dest, flight.airline.name)
        console.print(table)


def across(router: Router, console: Console) -> None:
    """Read from every shard, and from those that a list of keys names."""
    statement = select(Plane).where(Plane.manufacturer == "CESSNA")
    console.print(str(router.target(statement)), markup=False)
    with router.sessionmaker()() as session:
        planes = session.scalars(statement).all()
        console.print(f"{len(planes)} planes: {', '.join(sorted(p.tailnum for p in planes))}")
        some = select(Plane.tailnum).where(Plane.tailnum.in_([PLANE, "N24211", "N619AA"]))
        console.print(str(router.target(some)), markup=False)
        console.print(f"{len(session.scalars(some).all())} rows")


def merged(router: Router, console: Console) -> None:
    """Rank the airlines: every shard counts its own flights, and a merge adds up."""
    flights, miles = func.count(), func.sum(Flight.distance)
    statement = (
        select(Airline.name, flights, miles)
        .join(Flight, Flight.carrier == Airline.carrier)
        .group_by(Airline.name)
        .order_by(flights.desc())
        .limit(3)
    )
    _outline(router, statement, console)
    with router.sessionmaker()() as session:
        table = Table("airline", "flights", "miles", box=None)
        for name, count, distance in session.execute(statement):
            table.add_row(name, f"{count:,}", f"{distance:,}")
        console.print(table)


def gathered(router: Router, console: Console) -> None:
    """Join flights with the weather, which is in another database."""
    first, last = datetime(2013, 2, 8, 17, tzinfo=UTC), datetime(2013, 2, 8, 23, tzinfo=UTC)
    hour = func.date_trunc("hour", Flight.departed)
    statement = (
        select(Weather.origin, func.min(Weather.temp), func.count())
        .join(Flight, (Flight.origin == Weather.origin) & (hour == Weather.measured))
        .where(Weather.measured.between(first, last), Flight.departed.between(first, last))
        .group_by(Weather.origin)
        .order_by(Weather.origin)
    )
    _outline(router, statement, console)
    with router.sessionmaker()() as session:
        table = Table("airport", "coldest, °F", "flights", box=None)
        for origin, coldest, count in session.execute(statement):
            table.add_row(origin, f"{coldest:.1f}", f"{count:,}")
        console.print(table)


def _outline(router: Router, statement: Any, console: Console) -> None:
    plan = router.explain(statement)
    console.print(f"{plan.tier.name.lower()}: {plan.tier.value}", markup=False)
    for line in (*plan.reasons, *plan.steps):
        console.print(f"  - {line}", markup=False)


def refused(router: Router, console: Console) -> None:
    """Show the error of a statement that could be anywhere."""
    with router.sessionmaker()() as session:
        try:
            session.execute(text("SELECT count(*) FROM planes"))
        except RouterError as error:
            console.print(str(error), markup=False)


def atomic(router: Router, console: Console) -> None:
    """Write to two shards and one more database: all or nothing."""
    make = router.sessionmaker()
    with make() as session:
        session.add_all(_new())
        session.flush()
        session.rollback()
    console.print(f"rolled back:  {_written(router)} of 3 rows are there")
    with make.begin() as session:
        session.add_all(_new())
    console.print(f"committed:    {_written(router)} of 3 rows are there")
    _tidy(router)
    console.print(f"deleted:      {_written(router)} of 3 rows are there")


Step = Callable[[Router, Console], None]
STEPS: tuple[tuple[str, Step], ...] = (
    ("Where the rows went", where),
    ("One plane and its flights: one shard", lookup),
    ("Planes of one maker: every shard; a list of planes: only their shards", across),
    ("The busiest airlines: counted on every shard, and merged", merged),
    ("A snowstorm: flights joined with another database", gathered),
    ("What is refused, rather than answered wrongly", refused),
    ("One transaction over three databases", atomic),
)


def _new() -> list[Any]:
    plane = {"manufacturer": "DEMO", "model": "DEMO", "seats": 1}
    measured = datetime(2013, 1, 1, tzinfo=UTC)
    return [
        Plane(tailnum="DEMO-1", **plane),
        Plane(tailnum="DEMO-2", **plane),
        Weather(id=-1, origin="DEMO", measured=measured, temp=21.0),
    ]


def _written(router: Router) -> int:
    with router.sessionmaker()() as session:
        found = [
            session.get(Plane, "DEMO-1"),
            session.get(Plane, "DEMO-2"),
            session.get(Weather, -1),
        ]
        return sum(one is not None for one in found)


def _tidy(router: Router) -> None:
    # An earlier run may have been interrupted after its commit.
    with router.sessionmaker().begin() as session:
        for model, key in ((Plane, "DEMO-1"), (Plane, "DEMO-2"), (Weather, -1)):
            found = session.get(model, key)
            if found is not None:
                session.delete(found)


def _sql(statement: Any, router: Router, console: Console) -> None:
    engine = router.engine_for("air", PLANE)
    compiled = statement.compile(engine, compile_kwargs={"literal_binds": True})
    console.print(Syntax(str(compiled), "sql", word_wrap=True, background_color="default"))


def _go_on(console: Console) -> None:
    console.rule("[bold]How to go on", align="left")
    console.print(f"The map of this demo: {MAP}", markup=False, soft_wrap=True)
    console.print("Its models:           router/demo/models.py")
    console.print("Keep the servers:     router demo --wait")
    console.print("Load the data anew:   router demo --reset")
    console.print("Your own map:         config/shards.yaml, then `router check`")
