"""Calls that wait for databases, side by side: threads below, one session above."""
