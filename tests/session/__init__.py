"""Sessions over real databases of all three kinds."""
