"""What a person would call a run by its recipe, and how a name goes into a file name. No torch."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from compression.recipe.presets import PRESETS, available, preset_of
from compression.recipe.recipe import Recipe

ORIGINAL = "Original"
LONGEST = 40
_KEY_DIGITS = 6
_SEPARATOR = " · "
_LONGEST_SLUG = 60
# Signs that would be lost among lower-case letters and digits.
_SPELLED = {"%": "pct", "≤": "max ", "~": "avg ", "α": "alpha", "λ": "lambda"}


@lru_cache(maxsize=4096)
def short_name(recipe: Recipe, images: bool = True) -> str:
    """What a person would call a run by its settings: how much each step does, and the method.

    Recipes that differ in how much a step does (how much is pruned, bits, epochs, temperature)
    never have the same name. The method is left out where it is custom, where every preset comes
    to the same, and where there is no room. Of many steps the first ones and the last are named,
    and digits of the recipe's key stand for the others.

    Args:
        recipe: what was, or will be, done.
        images: whether the model has images to calibrate on, which decides what a preset sets.

    Returns:
        One line of at most 40 characters.

    Example:
        >>> from compression import Prune, Quantize, Recipe
        >>> from compression.recipe.short_name import short_name
        >>> short_name(Recipe(steps=(Prune(sparsity=0.95), Quantize(bits=4))))
        '95 % · 4 bit'
    """
    if not recipe.steps:
        return ORIGINAL
    headlines = [step.headline() for step in recipe.steps]
    amounts, key = _SEPARATOR.join(headlines), recipe.key[:_KEY_DIGITS]
    shortened = (
        f"{_SEPARATOR.join(headlines[:first])} … {headlines[-1]}{_SEPARATOR}{key}"
        for first in range(len(headlines) - 1, 0, -1)
    )
    names = (amounts + _method(recipe, images), amounts, *shortened)
    fitting = next((name for name in names if len(name) <= LONGEST), None)
    return fitting or f"{_whole_words(amounts, LONGEST - len(key) - 3)} … {key}"


def slug(name: str) -> str:
    """A name for use in file names: lower-case ASCII letters and digits, joined by hyphens.

    Args:
        name: of a run; given by a person or by `short_name`.

    Returns:
        At most 60 characters, such as `95pct-4bit-better`; `run` if nothing of the name is left.

    Example:
        >>> from compression.recipe.short_name import slug
        >>> slug("~2.5 bit · Better")
        'avg-2.5bit-better'
    """
    text = "".join(_SPELLED.get(sign, sign) for sign in unicodedata.normalize("NFKD", name))
    text = text.encode("ascii", "ignore").decode().lower()
    text = re.sub(r"(?<=\d)\s+(?=(?:pct|bit|points?|epochs?)\b)", "", text)
    text = re.sub(r"(?<!\d)\.|\.(?!\d)|[^a-z0-9.]+", "-", text)
    return re.sub(r"-+", "-", text)[:_LONGEST_SLUG].strip("-.") or "run"


def _whole_words(text: str, longest: int) -> str:
    """The beginning of a text without the word that has no room: half a number is another one."""
    return text[: longest + 1].rpartition(" ")[0].rstrip(_SEPARATOR + ",") or text[:longest]


def _method(recipe: Recipe, images: bool) -> str:
    """The preset that made the recipe, as the last part of a name; nothing if none tells."""
    fitting = [n for n in available(images) if preset_of(recipe, images=images, first=n) == n]
    preset = preset_of(recipe, images=images)
    if preset is None or len(fitting) == len(PRESETS):
        return ""
    return _SEPARATOR + PRESETS[preset].title
