"""What a configuration's fields are: kind, default and the text that explains them.

Flags of commands and settings files are made from this, so that a field is explained once.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import types
import typing
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError

__all__ = ['NONE_WORDS', 'FieldInfo', 'describe', 'parse_text']

NONE_WORDS = ('none', 'null', 'all')
"""What stands for None where None is legal and the medium has no word for it."""

_TRUE, _FALSE = ('true', 'yes', 'on', '1'), ('false', 'no', 'off', '0')
_KIND_NAMES = {int: 'a whole number', float: 'a number', bool: 'true or false', str: 'a word'}


@dataclass(frozen=True)
class FieldInfo:
    """One field of a configuration."""

    name: str
    kind: type
    """int, float, bool or str."""
    optional: bool
    """Whether None is legal."""
    default: Any
    doc: str
    """Its docstring on one line."""

    @property
    def expected(self) -> str:
        """What a legal value is, in words."""
        return _KIND_NAMES[self.kind] + (' or "none"' if self.optional else '')


@functools.cache
def describe(cls: type) -> tuple[FieldInfo, ...]:
    """Return the plain fields of a configuration in their order; nested configurations are left out."""
    hints = typing.get_type_hints(cls)
    docs = _field_docs(cls)
    infos = []
    for field in dataclasses.fields(cls):
        kind, optional = _analyse(hints[field.name])
        if kind in _KIND_NAMES:
            doc = docs.get(field.name, '')
            infos.append(FieldInfo(field.name, kind, optional, field.default, doc))
    return tuple(infos)


def _analyse(hint: Any) -> tuple[type, bool]:
    """Return (kind, whether None is legal) of a type hint."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return _analyse(inner[0])[0], True
    if typing.get_origin(hint) is typing.Literal:
        return str, False
    return hint, False


def _field_docs(cls: type) -> dict[str, str]:
    """Return the docstring under each field; none where the source is not at hand."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, SyntaxError):
        return {}
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    docs = {}
    for statement, following in itertools.pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            docs[statement.target.id] = ' '.join(str(following.value.value).split())
    return docs


def parse_text(info: FieldInfo, text: str) -> Any:
    """Return the value that `text` stands for; whether it is in range is for the configuration to say.

    Raises
    ------
    ConfigError
        If the text is not of the field's kind.
    """
    word = text.strip()
    if info.optional and word.casefold() in NONE_WORDS:
        return None
    try:
        if info.kind is bool:
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[word.casefold()]
        if info.kind is int:
            return int(word)
        if info.kind is float:
            return float(word)
    except (ValueError, KeyError):
        raise ConfigError(f'{info.name} is {text!r}; expected {info.expected}.') from None
    return word
