"""Run folders: what is saved there is whole, durable and checked when it is read."""

from charrnn.checkpoint.lock import Lock
from charrnn.checkpoint.names import check_name, find_run, free_names, list_runs
from charrnn.checkpoint.run import RunFolder
from charrnn.checkpoint.steps import host_copy
from charrnn.checkpoint.weights import WEIGHTS, load_weights

__all__ = [
    "WEIGHTS",
    "Lock",
    "RunFolder",
    "check_name",
    "find_run",
    "free_names",
    "host_copy",
    "list_runs",
    "load_weights",
]
