"""Merges what the shards give into what one database would give."""

from router.merge.merged import merge

__all__ = ["merge"]
