"""Peers that cannot share this project's environment have one of their own under `.cache/`.

Made once, by hand, with the command that `missing` names; nothing else in the project needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Environment:
    """What is installed there, and into which Python."""

    package: str
    version: str
    python: str

    @property
    def command(self) -> str:
        """The command that makes it, from the root of the project."""
        folder = f".cache/{self.package}"
        return (
            f"uv venv --python {self.python} {folder} && "
            f"uv pip install --no-config --python {folder} {self.package}=={self.version}"
        )


# NNCodec is built from source (a C++ compiler is needed) and wants NumPy before 2.
ENVIRONMENTS = {"nncodec": Environment("nncodec", "2.1.3", "3.11")}


def python_of(name: str) -> Path:
    """The Python of an environment, whether it is there or not."""
    return ROOT / ".cache" / name / "bin" / "python"
