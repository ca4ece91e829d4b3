"""Answers a read in one database, on copies of the rows that it needs from all the others."""
