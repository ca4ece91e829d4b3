"""Statements and where they go: goldens, one file for each kind of statement."""
