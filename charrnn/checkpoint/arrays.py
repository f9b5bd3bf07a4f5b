"""Named arrays as one safetensors file: arrays and text, nothing that could be run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from charrnn.checkpoint.reading import open_file
from charrnn.errors import CharrnnError, CheckpointError

_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def serialized(arrays: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file."""
    from safetensors.numpy import save

    return save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)


def read_arrays(
    path: Path, expected_by: Callable[[dict[str, str]], dict[str, Any]]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file.

    expected_by: makes of the metadata what the file must hold, names to anything with a shape and a
    dtype. That is compared with the file's header before any array is read. Raises CheckpointError
    with what is wrong, OSError where the file cannot be opened.
    """
    from safetensors import SafetensorError, safe_open

    open_file(path).close()  # raises the usual errors, where safetensors has its own
    try:
        with safe_open(path, "numpy") as opened:
            metadata = opened.metadata() or {}
            expected = expected_by(metadata)
            if set(expected) != set(opened.keys()):
                raise CheckpointError("its arrays are not those of the network it describes")
            for name, wanted in expected.items():
                _check(name, opened.get_slice(name), wanted)
            return {name: opened.get_tensor(name) for name in expected}, metadata
    except CharrnnError as error:
        raise CheckpointError(str(error)) from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"not a model of charrnn ({first_line(error)})") from error


def _check(name: str, found: Any, wanted: Any) -> None:
    shape, dtype = tuple(found.get_shape()), found.get_dtype()
    expected = _DTYPES[np.dtype(wanted.dtype).name]
    if shape != tuple(wanted.shape) or dtype != expected:
        raise CheckpointError(f"{name} is {dtype} {shape}, not {expected} {tuple(wanted.shape)}")


def first_line(error: BaseException) -> str:
    """What an error says, in one line that is not long."""
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:200]
