"""MANY clauses: lists of scans, shares of them, and what is done already."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.commands import reconstruct as reconstruct_command
from ptycho_engine.commands.many_scans import Outcome, Shard, outcome_lines
from ptycho_engine.formats.product import read_product
from ptycho_engine.scan.raw_data import RawData

QUICK = ['--model', 'none', '--calibrate', 'off', '--refine-iterations', '2', '--quiet']


def reconstruct(*words: object) -> int:
    return main(['reconstruct', *map(str, words), *QUICK])


def write_scans(source: Path, folder: Path) -> list[Path]:
    """Write four scans of 9 patterns each, all different."""
    raw = RawData.from_file(source / 'scan.npz')
    paths = [folder / f'fly{number}.npz' for number in range(4)]
    for number, path in enumerate(paths):
        raw.select(np.arange(number, number + 9)).to_file(path)
    return paths


@pytest.fixture
def scans(directory, tmp_path):
    return write_scans(directory, tmp_path)


def written(out) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob('*/product.h5')}


def test_many_01_one_that_fails_does_not_end_the_list(scans, tmp_path, capsys, monkeypatch):
    """Whatever it fails for: what it is, or what the machine says; each is told in a sentence."""
    out, absent = tmp_path / 'out', tmp_path / 'absent.npz'
    run = reconstruct_command.run_reconstruction

    def full(scan, *arguments):
        if scan.raw.path == scans[1]:
            raise OSError(28, 'No space left on device')
        return run(scan, *arguments)

    monkeypatch.setattr(reconstruct_command, 'run_reconstruction', full)
    assert reconstruct(absent, *scans[:3], '--output', out) == 1
    printed = capsys.readouterr()
    first, second = printed.err.splitlines()
    assert 'absent.npz' in first
    assert second == f'ptychopinn reconstruct: {out / "fly1"} cannot be written: No space left on device.'
    *_, head, lost, good, bad, last, count = printed.out.splitlines()
    assert head.split() == ['patterns', 'seconds', 'deviance', 'noise', 'result']
    assert lost.split() == ['absent', '-', '-', '-', '-', 'failed']
    assert bad.split() == ['fly1', '-', '-', '-', '-', 'failed']
    assert (good.split()[0], last.split()[0]) == ('fly0', 'fly2')
    assert count == '4 scans: 2 written, 2 failed.'
    assert set(written(out)) == {'fly0', 'fly2'} == {path.name for path in out.iterdir()}


def test_many_01_a_fault_of_ours_ends_the_list(scans, tmp_path, monkeypatch):
    def fault(*_):
        raise AssertionError('a bug')

    monkeypatch.setattr(reconstruct_command, 'run_reconstruction', fault)
    with pytest.raises(AssertionError, match='a bug'):
        reconstruct(*scans, '--output', tmp_path / 'out')


def test_many_02_shares_are_disjoint_whole_and_named_as_the_list(scans, tmp_path, capsys):
    """Two of the scans have one name, and get the folders that they get without shares."""
    (tmp_path / 'other').mkdir()
    again = shutil.copy(scans[1], tmp_path / 'other' / 'fly0.npz')
    words = [*scans[:2], again, '--output', tmp_path / 'out']
    assert reconstruct(*words, '--shard', '1/2') == 0
    first = set(written(tmp_path / 'out'))
    assert reconstruct(*words, '--shard', '2/2') == 0
    assert first == {'fly0-1', 'fly0-2'}
    assert set(written(tmp_path / 'out')) == first | {'fly1'}
    capsys.readouterr()
    assert reconstruct(*words, '--shard', '4/4') == 0
    assert capsys.readouterr().out == 'Of 3 scans none is in share 4 of 4.\n'
    shares = [Shard(number, 7).share(range(24)) for number in range(1, 8)]
    assert sorted(item for share in shares for item in share) == list(range(24))
    assert {len(share) for share in shares} == {3, 4}


@pytest.mark.parametrize('text', ['0/4', '5/4', '1', '1/0', '-1/4', 'a/b', '1/4/8'])
def test_many_02_a_wrong_share_is_a_mistake(text, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        reconstruct('a', 'b', '--output', tmp_path / 'out', f'--shard={text}')
    assert left.value.code == 2
    assert f"'{text}' is no share of a list; expected I/N with I from 1 to N" in capsys.readouterr().err


def test_many_03_what_is_done_is_passed_over(scans, tmp_path, capsys):
    """Also where a scan lies elsewhere by now, and in the table with what it says of itself."""
    out = tmp_path / 'out'
    assert reconstruct(*scans[:2], '--output', out) == 0
    before = written(out)
    capsys.readouterr()
    (tmp_path / 'moved').mkdir()
    moved = shutil.move(scans[0], tmp_path / 'moved')
    assert reconstruct(moved, *scans[1:3], '--output', out, '--continue', '--batch-size', '8') == 0
    lines = capsys.readouterr().out.splitlines()
    assert f'{out / "fly0"} holds the result of {moved} already.' in lines
    assert [line.split()[:2] for line in lines[-4:-1]] == [['fly0', '9'], ['fly1', '9'], ['fly2', '9']]
    assert [line.split()[-1] for line in lines[-4:-1]] == ['before', 'before', 'written']
    assert lines[-1] == '3 scans: 1 written, 2 done before.'
    after = written(out)
    assert {name: after[name] for name in before} == before
    assert set(after) == {'fly0', 'fly1', 'fly2'}


def test_many_03_of_one_scan_too(scans, tmp_path, capsys):
    """Under another name as well."""
    assert reconstruct(scans[0], '--output', tmp_path / 'out') == 0
    before = (tmp_path / 'out' / 'product.h5').read_bytes()
    renamed = scans[0].rename(tmp_path / 'renamed.npz')
    assert reconstruct(renamed, '--output', tmp_path / 'out', '--continue') == 0
    assert 'already' in capsys.readouterr().out
    assert (tmp_path / 'out' / 'product.h5').read_bytes() == before
    assert reconstruct(scans[1], '--output', tmp_path / 'out', '--continue') == 2


def another_scan(scans, out):
    shutil.copy(scans[1], scans[0])
    return [], 'the result of another scan'


def other_settings(scans, out):
    return ['--refine-smoothing', '0.5'], 'a result with other settings (refine_smoothing 0.12, now 0.5)'


def other_units(scans, out):
    return ['--nphotons', '5000'], 'a result of the same files read in another way'


def more_files(scans, out):
    return ['--formats', 'tiff'], 'this result without reconstruction_amplitude.tif'


def another_start(scans, out):
    return [
        '--start-from-object',
        shutil.copy(out / 'fly1' / 'product.h5', scans[0].with_name('start.h5')),
    ], 'a result that began at another object'


def no_record(scans, out):
    with h5py.File(out / 'fly0' / 'product.h5', 'r+') as file:
        del file['ptychopinn_provenance']
    return [], 'what does not say which result it is'


def no_product(scans, out):
    (out / 'fly0' / 'product.h5').unlink()
    return [], 'what does not say which result it is'


def wrong_record(scans, out):
    with h5py.File(out / 'fly0' / 'product.h5', 'r+') as file:
        del file['ptychopinn_provenance']
        file['ptychopinn_provenance'] = np.bytes_(json.dumps({'data': [1, {'files': 2}], 'settings': 3}))
    return [], 'the result of another scan'


CHANGES = [
    *(another_scan, other_settings, other_units, more_files, another_start),
    *(no_record, no_product, wrong_record),
]


@pytest.fixture(scope='module')
def two_results(directory, tmp_path_factory):
    """Return a folder with the results of the first two scans, to copy."""
    folder = tmp_path_factory.mktemp('results')
    assert reconstruct(*write_scans(directory, folder)[:2], '--output', folder / 'out') == 0
    return folder / 'out'


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
def test_many_04_another_result_is_never_replaced(change, scans, two_results, tmp_path, capsys):
    """It fails with a sentence on what differs, and the list goes on."""
    out = Path(shutil.copytree(two_results, tmp_path / 'out'))
    words, said = change(scans, out)
    before = {path: path.read_bytes() for path in (out / 'fly0').iterdir()}
    capsys.readouterr()
    alone = [scans[0], *scans[2:3], '--output', out, '--continue', *words]
    assert reconstruct(*alone) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert f'{out / "fly0"} holds {said}' in error
    assert {path: path.read_bytes() for path in (out / 'fly0').iterdir()} == before
    assert (out / 'fly2' / 'product.h5').is_file()


def test_many_04_another_model_is_another_result(scans, model, tmp_path, capsys):
    out = tmp_path / 'out'
    assert reconstruct(scans[0], '--output', out) == 0
    code = main(['reconstruct', str(scans[0]), '--output', str(out), *QUICK[2:], '--continue'])
    assert code == 2
    assert f'{out} holds a result by another model' in capsys.readouterr().err
    assert 'by physics alone' in read_product(out / 'product.h5').comments


def test_many_03_without_continue_a_result_is_made_again(scans, tmp_path):
    out = tmp_path / 'out'
    assert reconstruct(scans[0], '--output', out) == 0
    assert reconstruct(scans[1], '--output', out) == 0
    assert read_product(out / 'product.h5').name == 'fly1'


def test_many_05_the_table_fits_what_it_is_given():
    """Names of any length; what a file says in place of numbers is left out."""
    quality = {'deviance': 1.016, 'noise': 'x'}
    lines = outcome_lines(
        [
            Outcome('a' * 50, 'written', {'n_patterns': 529, 'seconds': 3.14159, 'quality': quality}),
            Outcome('b', 'failed'),
        ]
    )
    assert [len(line) for line in lines[:3]] == [86, 86, 86]
    assert lines[1].split() == ['a' * 40 + '…', '529', '3.1', '1.02', 'written']
    assert lines[2].split() == ['b', '-', '-', '-', 'failed']
    assert lines[3] == '2 scans: 1 written, 1 failed.'
