"""Import rules: who may import what, and how long it takes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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
        assert not names & {'torch', 'lightning_fabric'}
    if where.startswith('ptycho_engine/'):
        assert not names & {'ptychodus', 'ptychopinn_ptychodus'}
    if not where.startswith('ptycho_engine/backends/tensorflow'):
        assert not names & {'tensorflow', 'keras'}
    assert not names & {'torchvision', 'torchmetrics', 'pickle', 'dill'}


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
