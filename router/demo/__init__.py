"""A tour over real servers and real data: ``router demo``."""
