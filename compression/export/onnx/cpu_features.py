"""What this processor does with int8 products."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def saturates() -> bool:
    """Whether sums of two products of uint8 and int8 overflow 16 bits: x86 without VNNI or AMX.

    Where the processor does not say, it is taken to have none.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i686", "x86"):
        return False
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags)
