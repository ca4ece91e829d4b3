"""Tests that cannot pass with our session, by a part of their name, and why."""

from __future__ import annotations

from collections.abc import Mapping

from tests.drop_in.sessions import Kind

EXCUSED: Mapping[Kind, Mapping[str, str]] = {Kind.UNROUTED: {}, Kind.ROUTED: {}}
