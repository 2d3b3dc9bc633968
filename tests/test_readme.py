"""What the README shows works as it stands, with fewer epochs."""

import re
from pathlib import Path

import pytest

from ptycho_engine.commands import main
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
    exec(
        compile(
            code.replace('nepochs=20', 'nepochs=1, simulated_epochs=1, n_groups=32'), 'README.md', 'exec'
        ),
        names,
    )
    assert names['obj'].shape == names['scan'].grid.shape
    assert load_archive('model').config.nepochs == 1


QUICK = [
    '--epochs',
    '1',
    '--simulated-epochs',
    '1',
    '--groups',
    '16',
    '--filters-scale',
    '1',
    '--unrolled-steps',
    '1',
]


def test_the_shell_examples_run(inside):
    """All but `demo`, which `.ci/run` runs, and `ptychodus -b`, which the conformance tests run."""
    lines = [
        line.split('#')[0].strip()
        for block in re.findall(r'```sh\n(.*?)```', README.read_text(), flags=re.DOTALL)
        for line in block.splitlines()
    ]
    ours = [line.split()[1:] for line in lines if line.startswith('ptychopinn ')]
    for words in ours:
        extra = QUICK if words[0] == 'train' else []
        # A scan of 25 patterns may well have something to be said about it.
        allowed = {0, 1} if words[0] == 'doctor' else {0}
        assert main([*words, *extra, '--quiet']) in allowed, words
    assert {words[0] for words in ours} == {
        *('simulate', 'prepare', 'make-fixture', 'doctor', 'train', 'inspect', 'reconstruct', 'evaluate'),
        *('convert-product', 'validate-product'),
    }
    for made in (
        'result/product.h5',
        'scores/scores.csv',
        'IN32/product.h5',
        'small.json',
        'spiral/scan.npz',
    ):
        assert (inside / made).is_file(), made


def test_the_settings_example_is_what_simulate_writes(inside):
    (ini,) = blocks('ini')
    assert (inside / 'IN' / 'settings.ini').read_text().split() == ini.split()
