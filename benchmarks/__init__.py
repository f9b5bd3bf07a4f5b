"""Measurements, each a script that prints a table; `results/` holds what they printed and where."""
