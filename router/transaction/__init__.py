"""Commits over several databases that hold through any crash; see README.md beside this."""
