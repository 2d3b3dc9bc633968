"""What the README shows works as it stands, with fewer epochs."""

import re
from pathlib import Path

import pytest

from ptycho_engine.commands import build_parser, main
from ptycho_engine.files.archive import load_archive
from tests.conftest import small_scan

README = Path(__file__).parents[1] / 'README.md'


def blocks(language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', README.read_text(), flags=re.DOTALL)


@pytest.fixture
def inside(tmp_path, monkeypatch):
    raw = small_scan(points=5)
    raw.to_file(tmp_path / 'run.npz')
    monkeypatch.chdir(tmp_path)
    assert main(['simulate', '--from', 'run.npz', '--output', 'IN']) == 0
    return tmp_path


def test_the_python_example_runs(inside):
    (code,) = blocks('python')
    assert 'nepochs=20' in code
    names: dict[str, object] = {}
    exec(compile(code.replace('nepochs=20', 'nepochs=1'), 'README.md', 'exec'), names)
    assert names['obj'].shape == names['scan'].grid.shape
    assert load_archive('model').config.nepochs == 1


def test_the_shell_examples_are_valid_commands(inside):
    lines = [
        line.split('#')[0].strip()
        for block in re.findall(r'```sh\n(.*?)```', README.read_text(), flags=re.DOTALL)
        for line in block.splitlines()
    ]
    ours = [line.split()[1:] for line in lines if line.startswith('ptychopinn ')]
    assert {words[0] for words in ours} >= {
        'train',
        'reconstruct',
        'simulate',
        'convert-product',
        'validate-product',
    }
    for words in ours:
        options = build_parser().parse_args(words)
        assert options.command == words[0]
        if words[0] == 'train':
            assert main([*words, '--epochs', '1', '--filters-scale', '1', '--quiet']) == 0
        if words[0] == 'reconstruct':
            assert main([*words, '--quiet']) == 0
            assert (inside / 'result' / 'product.h5').is_file()
        if words[0].endswith('-product'):
            assert main([*words, '--quiet']) == 0


def test_the_settings_example_is_what_simulate_writes(inside):
    (ini,) = blocks('ini')
    assert (inside / 'IN' / 'settings.ini').read_text().split() == ini.split()
