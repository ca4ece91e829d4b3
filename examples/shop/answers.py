"""What an HTTP client is told about an error, whatever the framework."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.exc import DBAPIError, IntegrityError

from router import RouterError, TransactionInDoubtError


class Answer(NamedTuple):
    """An HTTP status, the JSON body, and headers."""

    status: int
    body: dict[str, str]
    headers: dict[str, str]


STATUS = {
    "R204": 422,  # a key of the wrong type
    "R207": 422,  # a key that no range or list has
    "R208": 403,  # outside of the request's partition
    "R215": 403,  # rows of another tenant than the request's
    "R309": 400,  # needs every shard, where the map forbids that
    "R310": 400,  # needs more rows than the map allows
    "R312": 409,  # rows changed meanwhile
    "R404": 409,  # a deadlock over several databases
    "R501": 503,  # a database cannot be reached
    "R502": 503,  # a database is too slow
}
"""Errors by id that a client can do something about.  The others are mistakes of ours: 500."""

RETRY_SECONDS = "5"


def answer(error: RouterError | DBAPIError) -> Answer:
    """Return what to answer.

    The messages of errors speak of tables, shards and the lines of the map: they belong into
    the log, and clients get the id.
    """
    if isinstance(error, RouterError):
        return _answer_by_id(error)
    if isinstance(error, IntegrityError):
        return Answer(409, {"error": "there is one already, or what it refers to is missing"}, {})
    if error.connection_invalidated:
        return _unavailable({"error": "a database went away"})
    return Answer(500, {"error": "a database refused this"}, {})


def _answer_by_id(error: RouterError) -> Answer:
    body = {"error": error.id}
    if isinstance(error, TransactionInDoubtError):
        # Not 503: it may have been committed, so that nobody should simply do it again.
        return Answer(500, {**body, "transaction": error.gtid}, {})
    status = STATUS.get(error.id, 500)
    return _unavailable(body) if status == 503 else Answer(status, body, {})


def _unavailable(body: dict[str, str]) -> Answer:
    return Answer(503, body, {"Retry-After": RETRY_SECONDS})
