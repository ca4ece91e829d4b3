"""Where statements go: pure, no input or output."""
