"""Import rules: who may import what, and how long it takes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ORDER = (
    *('version', 'printable', 'errors', 'blocks', 'arrays', 'events', 'progress'),
    *('io', 'config', 'physics', 'network', 'patterns', 'formats', 'scan', 'scoring', 'simulate', 'backends'),
    *(
        'whole_scan',
        'diagnostics',
        'training',
        'reconstruction',
        'live',
        'upstream',
        'commands',
        '__init__',
        '__main__',
    ),
)
"""Modules and packages of the engine: each imports only what stands before it."""
MODULES = sorted([*ROOT.glob('ptycho_engine/**/*.py'), *ROOT.glob('ptychopinn_ptychodus/**/*.py')])


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split('.')[0])
    return names


@pytest.mark.parametrize('path', MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_frameworks_and_ptychodus_stay_where_they_belong(path):
    names = imported(path)
    where = path.relative_to(ROOT).as_posix()
    if not where.startswith('ptycho_engine/backends/pytorch'):
        assert 'torch' not in names
    if where.startswith('ptycho_engine/'):
        assert not names & {'ptychodus', 'ptychopinn_ptychodus'}
    if not where.startswith('ptycho_engine/backends/tensorflow'):
        assert not names & {'tensorflow', 'keras'}
    assert not names & {'torchvision', 'torchmetrics', 'pickle', 'dill'}


def engine_imports() -> dict[str, set[str]]:
    """Return the modules of the engine and what each imports of it, lazily or for types alone too."""
    paths = {
        '.'.join(path.relative_to(ROOT / 'ptycho_engine').with_suffix('').parts): path
        for path in ROOT.glob('ptycho_engine/**/*.py')
    }
    found = {}
    for name, path in paths.items():
        here = ['ptycho_engine', *name.split('.')[:-1]]
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = here[: len(here) - node.level + 1] if node.level else []
            base = base + (node.module.split('.') if node.module else [])
            if base[0] != 'ptycho_engine':
                continue
            for alias in node.names:
                for target in ([*base[1:], alias.name], base[1:], [*base[1:], '__init__']):
                    if '.'.join(target) in paths:
                        found[name].add('.'.join(target))
                        break
    return found


def test_each_package_imports_only_those_before_it():
    place = {name: number for number, name in enumerate(ORDER)}
    imports = engine_imports()
    assert {name.split('.')[0] for name in imports} == set(ORDER)
    wrong = [
        f'{name} imports {other}'
        for name, others in imports.items()
        for other in sorted(others)
        if place[other.split('.')[0]] > place[name.split('.')[0]]
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others():
    before = engine_imports()
    while free := {name for name, others in before.items() if not others & set(before)}:
        before = {name: others for name, others in before.items() if name not in free}
    assert sorted(before) == []


@pytest.mark.parametrize('package', ['ptycho_engine', 'ptychopinn_ptychodus'])
def test_importing_a_package_loads_no_framework(package):
    code = (
        f'import sys; import {package}; '
        "print([m for m in ('torch', 'tensorflow', 'PyQt5', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == '[]'


def test_public_names_resolve():
    import ptycho_engine

    for name in ptycho_engine.__all__:
        assert getattr(ptycho_engine, name) is not None
    with pytest.raises(AttributeError):
        ptycho_engine.nothing  # noqa: B018
