"""Sharding functions, one a file.

The table of them is in `registry`, not here, so that importing `protocol` costs nothing.
"""
