"""Commits over several databases, and everything that can happen to them."""
