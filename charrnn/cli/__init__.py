"""The command line: a skin over the Python API, and the only floor that prints."""
