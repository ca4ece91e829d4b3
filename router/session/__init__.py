"""Sessions that route."""
