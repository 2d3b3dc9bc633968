"""The text that a pickled NumPy array of no axes holds, read without running what a pickle may ask for."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any

__all__ = ['MOST_BYTES', 'pickled_text']

MOST_BYTES = 16 << 20
"""Of a pickle that is looked at."""

BOOKKEEPING = frozenset(('PROTO', 'FRAME', 'MEMOIZE', 'PUT', 'BINPUT', 'LONG_BINPUT'))
"""Operations that do not say what an object is."""

TEXTS = frozenset(('SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8'))

Operation = tuple[str, Any]

NUMPY_AGAIN = ('BINGET', 3)
"""The second time that the name of NumPy is needed, it is taken from where the first one was kept."""


def _name(module: str, name: str) -> list[Operation]:
    return [('TEXT', module), ('TEXT', name), ('GLOBAL', None)]


ARRAY: list[Operation] = [
    *_name('numpy._core.multiarray', '_reconstruct'),
    *_name('numpy', 'ndarray'),
    *(('BININT1', 0), ('TUPLE1', None), ('SHORT_BINBYTES', b'b'), ('TUPLE3', None), ('REDUCE', None)),
    *(('MARK', None), ('BININT1', 1), ('EMPTY_TUPLE', None)),
    *_name('numpy', 'dtype'),
    *(('TEXT', 'O8'), ('NEWFALSE', None), ('NEWTRUE', None), ('TUPLE3', None), ('REDUCE', None)),
    *(('MARK', None), ('BININT1', 3), ('TEXT', '|'), ('NONE', None), ('NONE', None), ('NONE', None)),
    *(('BININT', -1), ('BININT', -1), ('BININT1', 63), ('TUPLE', None), ('BUILD', None)),
    *(('NEWFALSE', None), ('EMPTY_LIST', None)),
]
"""The operations of an array of one object, in the protocols 3 to 5, up to that object."""

END: list[Operation] = [('APPEND', None), ('TUPLE', None), ('BUILD', None), ('STOP', None)]
"""Those after it."""


def pickled_text(data: bytes) -> str | None:
    """Return the text of ``np.array(text, dtype=object)`` as NumPy pickles it; None of anything else.

    The operations of the pickle are compared with those that such an array has, and none is carried out.
    """
    if len(data) > MOST_BYTES:
        return None
    try:
        found = list(_operations(data))
    except (ValueError, IndexError, OverflowError, MemoryError):
        return None
    before, middle, after = found[: len(ARRAY)], found[len(ARRAY) : -len(END)], found[-len(END) :]
    if before != ARRAY or after != END or len(middle) != 1 or middle[0][0] != 'TEXT':
        return None
    return str(middle[0][1])


def _operations(data: bytes) -> Iterator[Operation]:
    """Yield the operations of a pickle, those of all protocols in one spelling."""
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in BOOKKEEPING:
            continue
        if name in TEXTS:
            # NumPy 1 has the other name.
            old = argument == 'numpy.core.multiarray'
            yield 'TEXT', 'numpy._core.multiarray' if old else argument
        elif name == 'GLOBAL':
            module, _, inside = str(argument).partition(' ')
            yield from _name(module.replace('numpy.core', 'numpy._core'), inside)
        elif name == 'STACK_GLOBAL':
            yield 'GLOBAL', None
        elif (name, argument) == NUMPY_AGAIN:
            yield 'TEXT', 'numpy'
        else:
            yield name, argument
