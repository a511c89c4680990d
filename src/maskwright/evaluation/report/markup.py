"""HTML by construction: whatever is not markup already is escaped when it becomes part of an element."""

import html
import re
from collections.abc import Iterable
from typing import Final

VOID: Final = frozenset(("br", "img", "input", "link", "meta", "wbr"))  # elements without an end tag
JOINT: Final = re.compile(r"(?<=[\[,/_=])")  # a long name may be broken behind these signs
UNPRINTABLE: Final = {code: f"\\x{code:02x}" for code in (*range(9), 11, 12, *range(14, 32), *range(127, 160))}

Attribute = str | int | float | bool | None


class Markup(str):
    """Text that is HTML and stays as it is."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Text that a browser shows letter by letter; markup is left alone.

    Letters that no browser shows (control characters, halves of surrogate pairs out of file names) become their escapes.
    """
    if isinstance(text, Markup):
        return text
    shown = text.translate(UNPRINTABLE).encode("utf-8", "backslashreplace").decode("utf-8")
    return Markup(html.escape(shown, quote=True))


def element(name: str, /, *children: str, **attributes: Attribute) -> Markup:
    """One element of HTML or SVG.

    Args:
        name: of the element.
        children: what is inside, in order; plain text is escaped.
        attributes: "class_" stands for class, "_" for "-"; True is an attribute without a value, None and False are left out.
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{head}>")
    return Markup(f"<{head}>{join(children)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Parts one after another; plain text is escaped."""
    return Markup(escape(between).join(escape(part) for part in parts))


def label(text: str) -> Markup:
    """A name that somebody else chose: its writing direction stays inside of it, and lines break where it has joints."""
    return element("bdi", join(JOINT.split(text), Markup("<wbr>")))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    key = key.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {key}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f' {key}="{escape(str(text))}"'
