"""What commands import: what takes long to load is loaded by those alone that use it."""

import json
import subprocess
import sys

import pytest

from ptycho_engine.commands import COMMANDS

HELP = """
import contextlib, io, json, sys
before = set(sys.modules)
from ptycho_engine.commands import COMMANDS, build_parser, main

def foreign():
    names = {name.partition('.')[0] for name in set(sys.modules) - before}
    return sorted(names - set(sys.stdlib_module_names) - {'ptycho_engine'})

found = {}
for command in COMMANDS:
    for words in ([command, '--help'], [command, '--no-such-option']):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                main(words)
            except SystemExit as left:
                found[' '.join(words)] = [left.code, foreign(), said.getvalue()]
build_parser()
found['all'] = [0, foreign(), '']
print(json.dumps(found))
"""
RUN = """
import sys
from ptycho_engine.commands import main
assert main(sys.argv[2:]) == 0
print(*sorted(set(sys.argv[1].split(',')) & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(scope='module')
def after_help():
    """Return exit code, modules of other packages and complaint of each command line, in one process."""
    done = subprocess.run([sys.executable, '-c', HELP], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize('command', COMMANDS)
def test_help_and_refusal_load_the_standard_library_alone(command, after_help):
    """Not even NumPy; it and what comes with it take ten times as long as the rest."""
    assert after_help[f'{command} --help'] == [0, [], '']
    code, foreign, said = after_help[f'{command} --no-such-option']
    assert (code, foreign) == (2, [])
    assert said.startswith(f'ptychopinn {command}: ')


def test_the_completion_of_a_shell_loads_the_standard_library_alone(after_help):
    """It is made of the parser with all commands."""
    assert after_help['all'] == [0, [], '']


def test_a_reconstruction_loads_no_compiler_of_pytorch(directory, tmp_path):
    """Which takes as long to load as PyTorch itself, and more memory than a scan."""
    watched = 'torch._dynamo', 'torch._inductor', 'sympy', 'tensorflow', 'skimage', 'scipy.stats', 'torch'
    words = 'reconstruct', directory, '--output', tmp_path / 'out', '--quiet'
    run = [sys.executable, '-c', RUN, ','.join(watched), *map(str, words)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1].split() == ['torch']
