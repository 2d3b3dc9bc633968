"""What docstrings refer to exists: :func:`~.module.name`, relative to the module, as Sphinx looks for it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE = re.compile(r':(?:class|func|mod|meth|attr|data|exc):`~?(\.+)([\w.]+)`')


def defines(module: Path, name: str) -> bool:
    """Return whether a module defines or imports a name at its top, or is a package with such a module."""
    source = module / '__init__.py' if module.is_dir() else module.with_suffix('.py')
    if (module / name).is_dir() or (module / name).with_suffix('.py').is_file():
        return True
    text = source.read_text(encoding='utf-8') if source.is_file() else ''
    return bool(re.search(rf'^(?:(?:class|def) |from .*\b|    )?{name}\b', text, re.MULTILINE))


def test_references_in_docstrings_lead_somewhere() -> None:
    lost, count = [], 0
    for path in sorted(
        path
        for package in ('ptycho_engine', 'ptychopinn_ptychodus')
        for path in (ROOT / package).rglob('*.py')
    ):
        for dots, dotted in REFERENCE.findall(path.read_text(encoding='utf-8')):
            count += 1
            place = path.parents[len(dots) - 1]
            for part in dotted.split('.'):
                if not defines(place, part):
                    lost.append(f'{path.relative_to(ROOT)}: {dots}{dotted}')
                    break
                place = place / part
                if not place.is_dir() and not place.with_suffix('.py').is_file():
                    # A name in a module; what belongs to a class is not looked for.
                    break
    assert count > 40
    assert lost == []
