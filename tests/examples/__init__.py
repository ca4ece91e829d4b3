"""The examples are run as their users run them."""
