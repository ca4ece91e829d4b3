"""Finds transactions that wait for each other where no database alone can see it."""
