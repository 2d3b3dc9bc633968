"""The JSON Schema of a settings file, made from the configurations and their own checks."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .checks import RangeError
from .describe import NONE_WORDS, FieldInfo, describe
from .files import SECTIONS

__all__ = ['settings_schema']

DIALECT = 'https://json-schema.org/draft/2020-12/schema'
TYPES = {int: 'integer', float: 'number', bool: 'boolean', str: 'string'}
IMPOSSIBLE: dict[type, Any] = {int: -(2**62), float: -1e300, str: '\0'}
"""A value of each kind that no field may have, so that its check tells which ones it may."""


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of a settings file in JSON, YAML or TOML, with a section for each configuration.

    A field that may be None takes the word "none" too, for TOML has no other. Rules between fields are not
    in it; reading the file checks them.
    """
    return {
        '$schema': DIALECT,
        'title': 'Settings of ptychopinn',
        'type': 'object',
        'properties': {name: _section(cls) for name, cls in SECTIONS.items()},
        'additionalProperties': False,
    }


def _section(cls: type) -> dict[str, Any]:
    return {
        'type': 'object',
        'properties': {info.name: _field(cls, info) for info in describe(cls)},
        'additionalProperties': False,
    }


def _field(cls: type, info: FieldInfo) -> dict[str, Any]:
    value = {'type': TYPES[info.kind], **_legal(cls, info)}
    if info.optional:
        value = {'anyOf': [value, {'type': 'null'}, {'enum': list(NONE_WORDS)}]}
    return {'description': info.doc, 'default': info.default, **value}


def _legal(cls: type, info: FieldInfo) -> dict[str, Any]:
    """Return choices or bounds of a field; nothing where another check than that of its range comes first."""
    try:
        cls(**{info.name: IMPOSSIBLE.get(info.kind, info.default)})
    except RangeError as error:
        return error.legal
    except ConfigError:
        pass
    return {}
