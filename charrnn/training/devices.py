"""What the machine can do, as far as training must know it."""

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import jax

from charrnn.config import Precision
from charrnn.text.cache import usable_cache_folder


def resolve_precision(precision: Precision) -> Precision:
    """Turn `auto` into the faster number format for products: "bfloat16" where it is native.

    TPUs and NVIDIA's GPUs since Ampere multiply bfloat16 natively, and so do x86 processors with AVX-512 BF16 or AMX,
    where it ran 1.3 to 2 times as fast as float32; elsewhere it would be emulated.
    """
    if precision != "auto":
        return precision
    native = _cpu_has_bfloat16() if jax.default_backend() == "cpu" else _accelerator_has_bfloat16(jax.devices()[0])
    return "bfloat16" if native else "float32"


_AMPERE = 8.0


def _accelerator_has_bfloat16(device: Any) -> bool:
    try:
        return float(getattr(device, "compute_capability", _AMPERE)) >= _AMPERE
    except (TypeError, ValueError):  # AMD's GPUs tell a name, such as gfx90a
        return True


def _cpu_has_bfloat16(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    try:
        text = cpu_info.read_text("utf-8", "replace")
    except OSError:  # not Linux
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def keep_compiled_programs() -> None:
    """Let JAX keep what it compiles in the user's cache folder, so that the next start is quick.

    JAX writes a program in place, so one that is being written by another process, or was by one that
    was killed, cannot be read. It is compiled then, as without a cache, and there is nothing to warn of.
    """
    folder = usable_cache_folder() / "compiled"
    with contextlib.suppress(OSError):  # not there yet, or another process tidies it too
        for entry in os.scandir(folder):
            if not entry.stat().st_size:  # begun and not written, as on a full disk: it would stay so
                os.unlink(entry)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry", UserWarning)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


_MOST_CORES = 8


def use_every_core() -> None:
    """Let JAX see each core of the CPU as a device. To be called before it is first used.

    A batch split over the cores is faster than products split over them, since no step of the
    recurrence waits for another core. JAX_NUM_CPU_DEVICES takes precedence.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jax.config.update("jax_num_cpu_devices", min(cores, _MOST_CORES))
