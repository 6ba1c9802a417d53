"""What the READMEs say in a form that can be checked: blocks of code, inline code, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.readme import ROOT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("compression", "compression-dashboard", "python", "uv", "pip", "pytest")


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language and its text."""

    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a README, in order."""
    return [Block(*found) for found in _FENCE.findall(path.read_text(encoding="utf-8"))]


def prose(path: Path) -> str:
    """A README without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def inline_code(path: Path) -> list[str]:
    """What stands between backticks in a README's prose."""
    return re.findall(r"`([^`\n]+)`", prose(path))


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell block or line, as words, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in line.split("&&"):
            words = shlex.split(command, comments=True)
            if words:
                yield words


def inline_commands(path: Path) -> list[list[str]]:
    """Inline code that is a command with arguments."""
    lines = [code for code in inline_code(path) if code.split()[0] in PROGRAMS and " " in code]
    return [words for line in lines for words in commands(line)]


def shown_functions(path: Path) -> list[tuple[Path, str]]:
    """Files and functions named as `file.py:function`, the file as in `resolve`."""
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", prose(path))
    return [(resolve(path, file), name) for file, name in named]


def shown_files(path: Path) -> list[Path]:
    """Files named in inline code with their folder."""
    named = (code for code in inline_code(path) if re.fullmatch(r"[\w./-]+\.(py|toml|json)", code))
    return [resolve(path, name) for name in named if "/" in name]


def resolve(path: Path, name: str) -> Path:
    """A file named in a README: in its folder, or else from the root."""
    beside = path.parent / name
    return beside if beside.exists() else ROOT / name


def flags(path: Path) -> set[str]:
    """The flags named by themselves in a README's prose, such as `--repair` or `--grid learned`."""
    found = (re.match(r"(--[a-z][a-z0-9-]*)\b", code) for code in inline_code(path))
    return {match[1] for match in found if match}
