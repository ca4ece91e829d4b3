"""Read-only copies of databases: how far they are, which may be read, what a session must see."""
