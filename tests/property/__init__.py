"""Random maps, data and statements, compared with one database."""
