"""The few errors a person can meet. Only `cli/` turns them into exit codes and Click messages."""


class CharrnnError(Exception):
    """Something a person can act on. The message is one line: what, where, what to do next."""

    exit_code = 1


class ConfigError(CharrnnError):
    """An option is out of its bounds, or options contradict each other."""

    exit_code = 2


class CorpusError(CharrnnError):
    """The text handed in cannot be used as it is."""

    exit_code = 2


class RunNotFoundError(CharrnnError):
    """There is no such run, or no run at all."""

    exit_code = 2


class CheckpointError(CharrnnError):
    """A run folder exists but cannot be read or written."""


class StorageError(CharrnnError):
    """A disk or a folder does not take what has to be written."""


class TrainingError(CharrnnError):
    """Training cannot go on."""
