"""Reads from replicas, on real ones."""
