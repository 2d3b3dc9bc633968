"""What commands import: what takes long to load is loaded by those alone that use it."""

import subprocess
import sys

import pytest

from ptycho_engine.commands import COMMANDS

RUN = """
import sys
from ptycho_engine.commands import main
try:
    code = main(sys.argv[2:])
except SystemExit as left:
    code = left.code
assert code == 0, code
print(*sorted(set(sys.argv[1].split(',')) & set(sys.modules)), file=sys.stderr)
"""
FRAMEWORKS = 'torch', 'tensorflow', 'keras'
SLOW = 'matplotlib', 'scipy.stats', 'scipy.signal', 'skimage'
"""Each takes a third of a second and more."""


def loaded(watched: tuple[str, ...], *words: object) -> list[str]:
    """Return which of the modules a command has loaded when it ends."""
    run = [sys.executable, '-c', RUN, ','.join(watched), *map(str, words)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1].split()


@pytest.mark.parametrize('command', COMMANDS)
def test_help_loads_nothing_slow(command):
    assert loaded(FRAMEWORKS + SLOW, command, '--help') == []


def test_a_reconstruction_loads_no_compiler_of_pytorch(directory, tmp_path):
    """Which takes as long to load as PyTorch itself, and more memory than a scan."""
    watched = 'torch._dynamo', 'torch._inductor', 'sympy', 'tensorflow', 'skimage', 'scipy.stats', 'torch'
    words = 'reconstruct', directory, '--output', tmp_path / 'out', '--quiet'
    assert loaded(watched, *words) == ['torch']
