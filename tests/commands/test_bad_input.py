"""What is wrong with an input or an output ends in one sentence and the right exit code, in every command."""

import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ptycho_engine.commands import main

FAILURE, MISTAKE = 1, 2


@pytest.fixture(scope='module')
def arrays(directory):
    with np.load(directory / 'scan.npz') as file:
        return dict(file)


def said(words, capsys) -> tuple[int, str]:
    capsys.readouterr()
    code = main([str(word) for word in words])
    return code, capsys.readouterr().err.strip()


@pytest.fixture
def npz(tmp_path, arrays):
    """Write the scan with some arrays changed, or left out where they are None."""

    def write(name: str, **changes):
        path = tmp_path / f'{name}.npz'
        merged = {**arrays, **changes}
        np.savez(path, **{key: value for key, value in merged.items() if value is not None})
        return path

    return write


def bad_scans(npz, arrays):
    patterns, x, y = arrays['diffraction'], arrays['xcoords'], arrays['ycoords']
    nan = patterns.copy()
    nan[3, 30, 30] = np.nan
    yield npz('nan', diffraction=nan), 'NaN'
    yield npz('negative', diffraction=-patterns), 'negative'
    yield npz('keys', probeGuess=None), "lacks 'probeGuess'"
    yield npz('empty', diffraction=patterns[:0], xcoords=x[:0], ycoords=y[:0]), 'the scan is empty'
    yield npz('lengths', xcoords=x[:-1]), 'positions'
    yield npz('dark', diffraction=patterns * 0), 'no counts'
    yield npz('text', xcoords=np.array(['a'] * len(x))), 'xcoords'
    yield npz('square', xcoords=x.reshape(7, 7)), 'xcoords has shape (7, 7)'


QUICK = ['--epochs', '1', '--groups', '4']


@pytest.mark.parametrize('command', ['train', 'reconstruct'])
def test_bad_scans(command, npz, arrays, model, tmp_path, capsys):
    out = tmp_path / 'out'
    options = ['--model', model] if command == 'reconstruct' else QUICK
    for path, words in bad_scans(npz, arrays):
        code, error = said([command, path, '--output', out, *options, '--quiet'], capsys)
        assert code == MISTAKE, (path.name, error)
        assert words in error, (path.name, error)
        assert path.name in error
        assert len(error.splitlines()) == 1, (path.name, error)
    assert not out.exists()


def test_a_truth_is_of_one_scan(directory, model, tmp_path, capsys):
    good, out = directory / 'scan.npz', tmp_path / 'out'
    words = [good, '--model', model, '--output', out, '--truth', directory / 'truth.h5']
    code, error = said(['reconstruct', good, *words], capsys)
    assert (code, len(error.splitlines())) == (MISTAKE, 1)
    assert '--truth is the object of one scan, but 2 scans were given' in error
    code, error = said(['reconstruct', *words, '--continue'], capsys)
    assert (code, len(error.splitlines())) == (MISTAKE, 1)
    assert '--truth cannot be given with --continue, which may keep an earlier result' in error
    assert not out.exists()


def test_results_do_not_go_where_a_scan_is(directory, model, tmp_path, capsys):
    scan = shutil.copytree(directory, tmp_path / 'a')
    other = shutil.copytree(directory, tmp_path / 'b')
    before = (scan / 'product.h5').read_bytes()
    words = ['--model', model, '--quiet']
    code, error = said(['reconstruct', scan / 'scan.npz', '--output', scan, *words], capsys)
    assert (code, len(error.splitlines())) == (MISTAKE, 1)
    assert f'{scan} holds a scan, whose product.h5 would be lost' in error
    code, error = said(['reconstruct', scan, other, '--output', tmp_path, *words], capsys)
    assert (code, len(error.splitlines())) == (1, 2)
    assert all(f'{each} holds a scan, whose product.h5 would be lost' in error for each in (scan, other))
    assert (scan / 'product.h5').read_bytes() == before


def test_a_truth_on_another_grid_is_told_before_the_run(directory, model, tmp_path, capsys):
    np.savez(tmp_path / 'truth.npz', objectGuess=np.ones((40, 40), complex))
    words = ['reconstruct', directory, '--model', model, '--output', tmp_path / 'out']
    code, error = said([*words, '--truth', tmp_path / 'truth.npz', '--quiet'], capsys)
    assert code == MISTAKE
    assert 'compare objects on the same grid' in error
    assert not (tmp_path / 'out').exists()


def test_one_pattern(npz, arrays, model, tmp_path, capsys):
    one = {key: arrays[key][:1] for key in ('diffraction', 'xcoords', 'ycoords')}
    path, out = npz('one', **one), tmp_path / 'out'
    code, error = said(['train', path, '--output', out, '--gridsize', '2', '--quiet'], capsys)
    assert (code, len(error.splitlines())) == (MISTAKE, 1)
    assert 'gridsize 2 needs' in error
    assert not out.exists()
    assert said(['reconstruct', path, '--model', model, '--output', out, '--quiet'], capsys)[0] == 0


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['train', '{none}', '--output', '{out}'], 'there is no such file'),
        (['reconstruct', '{none}', '--model', '{model}', '--output', '{out}'], 'there is no such file'),
        (['reconstruct', '{scan}', '--model', '{none}', '--output', '{out}'], 'There is no model'),
        (
            ['reconstruct', '{scan}', '--model', '{model}', '--output', '{out}', '--truth', '{none}'],
            'there is no such file',
        ),
        (['train', '{scan}', '--output', '{out}', '--config', '{none}'], 'ends in'),
        (['evaluate', '{none}', '--truth', '{scan}', '--output', '{out}'], 'there is no such file'),
        (['evaluate', '{out}', '--truth', '{scan}', '--output', '{out}'], 'there is no such file'),
        (['inspect', '{none}'], 'There is no model'),
        (['convert-product', '--input-npz', '{none}', '--output-product', '{out}'], 'there is no such file'),
        (['make-fixture', '--source', '{none}', '--output', '{out}'], 'there is no such file'),
        (['simulate', '--from', '{none}', '--output', '{out}'], 'neither a file nor'),
        (['link', '--ptychodus', '{none}'], 'is no Ptychodus'),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_missing_files(words, sentence, directory, model, tmp_path, capsys):
    places = {
        'none': tmp_path / 'nothing',
        'out': tmp_path / 'out',
        'scan': directory / 'truth.h5' if words[0] == 'evaluate' else directory / 'scan.npz',
        'model': model,
    }
    code, error = said([word.format(**places) for word in words], capsys)
    assert code == MISTAKE, error
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['demo', '--points', '4'], '--points is 4; expected a whole number at least 5'),
        (['demo', '--seed', '-1'], '--seed is -1; expected a whole number at least 0'),
        (['simulate', '--epochs', '0'], '--epochs is 0; expected a whole number at least 1'),
        (['simulate', '--gridsize', '9'], '--gridsize is 9; expected a whole number from 1 to 5'),
        (['simulate', '--seed', '-1'], '--seed is -1; expected a whole number at least 0'),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else None,
)
def test_numbers_out_of_range_are_told_before_anything_is_made(words, sentence, tmp_path, capsys):
    out = tmp_path / 'out'
    code, error = said([*words, '--output', out, '--quiet'], capsys)
    assert (code, len(error.splitlines())) == (MISTAKE, 1)
    assert sentence in error
    assert not out.exists()


@pytest.mark.parametrize(
    'command',
    [
        *('demo', 'simulate', 'train', 'reconstruct', 'evaluate', 'inspect', 'convert-product'),
        *('validate-product', 'make-fixture', 'doctor', 'link', 'gui', 'export-onnx'),
    ],
)
def test_an_unknown_option(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, '--no-such-option', '3'])
    error = capsys.readouterr().err.strip()
    assert caught.value.code == MISTAKE
    assert len(error.splitlines()) == 1


def test_an_output_that_cannot_be_is_told_before_the_work(directory, model, tmp_path, capsys, monkeypatch):
    blocked = tmp_path / 'file'
    blocked.write_text('not a directory')
    commands = (
        ['train', directory],
        ['reconstruct', directory, '--model', model],
        ['evaluate', directory / 'truth.h5', '--truth', directory / 'truth.h5'],
    )
    for words in commands:
        code, error = said([*words, '--output', blocked / 'out', '--quiet'], capsys)
        assert (code, len(error.splitlines())) == (FAILURE, 1)
        assert f'{blocked} is a file' in error

    def refused(*arguments, **options):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('ptycho_engine.io.preflight.new_temporary', refused)
    for words in commands:
        code, error = said([*words, '--output', tmp_path / 'out', '--quiet'], capsys)
        assert code == FAILURE
        assert 'may not be written to' in error


def test_a_full_disk(directory, model, tmp_path):
    """The kernel refuses to write more than 20 kB to a file, as a full disk would."""
    out = tmp_path / 'out'
    for words in (
        ['train', directory, '--output', out, *QUICK, '--filters-scale', '1'],
        ['reconstruct', directory, '--model', model, '--output', out],
    ):
        done = subprocess.run(
            [sys.executable, '-m', 'ptycho_engine', *map(str, words), '--quiet'],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        )
        assert done.returncode == FAILURE, done.stderr
        (sentence,) = [line for line in done.stderr.splitlines() if line.startswith('ptychopinn ')]
        assert sentence.endswith(f'{out} cannot be written: File too large.')
        assert 'Traceback' not in done.stderr
        assert not list(out.glob('*.zip')) + list(out.glob('*.h5')) + list(out.glob('.*'))


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's, which is no RuntimeError."""


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        ResourceExhaustedError('OOM'),
    ],
)
def test_memory_that_ran_out_is_one_sentence(error, monkeypatch, tmp_path, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr('ptycho_engine.commands.inspect.run', fail)
    code, said_so = said(['inspect', tmp_path], capsys)
    assert (code, len(said_so.splitlines())) == (FAILURE, 1)
    assert 'memory ran out; choose a smaller --batch-size' in said_so


def test_what_is_not_foreseen_keeps_its_traceback(monkeypatch, tmp_path):
    def fail(options):
        raise RuntimeError('a mistake of ours')

    monkeypatch.setattr('ptycho_engine.commands.inspect.run', fail)
    with pytest.raises(RuntimeError, match='a mistake of ours'):
        main(['inspect', str(tmp_path)])


def writing_commands(directory, model, out):
    """Yield each command that writes, and a file that it would write."""
    npz = directory / 'scan.npz'
    yield ['train', directory, '--output', out], 'wts.h5.zip'
    yield ['reconstruct', directory, '--model', model, '--output', out], 'reconstruction.npz'
    truth = directory / 'truth.h5'
    yield ['evaluate', truth, '--truth', truth, '--output', out], 'scores.json'
    yield ['prepare', directory, '--output', out], 'diffraction.h5'
    yield ['prepare', directory, '--output', out / 'scan.npz'], 'scan.npz'
    yield ['convert-product', '--input-npz', npz, '--output-product', out / 'p.h5'], 'p.h5'
    yield ['make-fixture', '--source', npz, '--output', out / 'f.npz'], 'f.npz'
    yield ['simulate', '--points', '2x2', '--size', '16', '--output', out], 'truth.h5'
    yield ['demo', '--output', out], 'demo.png'


def test_out_01_every_command_tries_its_output_before_it_computes(directory, model, tmp_path, capsys):
    for number, (words, name) in enumerate(writing_commands(directory, model, tmp_path / 'x')):
        out = tmp_path / f'out{number}'
        (out / name).mkdir(parents=True)
        words = [str(word).replace(str(tmp_path / 'x'), str(out)) for word in words]
        code, error = said([*words, '--quiet'], capsys)
        assert (code, len(error.splitlines())) == (FAILURE, 1), (words, error)
        assert f'{out / name} cannot be written: a folder has that name' in error
        assert [path.name for path in out.rglob('*')] == [name]
        blocked = tmp_path / f'file{number}'
        blocked.write_text('')
        words = [str(word).replace(str(out), str(blocked / 'out')) for word in words]
        code, error = said([*words, '--quiet'], capsys)
        assert (code, len(error.splitlines())) == (FAILURE, 1), (words, error)
        assert f'{blocked} is a file' in error


def test_out_02_no_command_replaces_what_it_reads(directory, model, tmp_path, capsys):
    scan = shutil.copytree(directory, tmp_path / 'scan')
    before = {path.name: path.read_bytes() for path in scan.iterdir()}
    npz = scan / 'scan.npz'
    for words in (
        ['prepare', scan, '--output', scan],
        ['prepare', npz, '--output', npz],
        ['convert-product', '--input-npz', npz, '--output-product', npz],
        ['simulate', '--from', npz, '--output', scan],
        ['make-fixture', '--source', npz, '--output', npz],
    ):
        code, error = said([*words, '--quiet'], capsys)
        assert (code, len(error.splitlines())) == (MISTAKE, 1), (words, error)
    assert {path.name: path.read_bytes() for path in scan.iterdir()} == before


def test_out_03_no_room_is_told_before_the_run(directory, model, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr('ptycho_engine.io.preflight.shutil.disk_usage', lambda _: usage)
    out = tmp_path / 'out'
    for words in (['train', directory], ['reconstruct', directory, '--model', model]):
        code, error = said([*words, '--output', out, '--quiet'], capsys)
        assert (code, len(error.splitlines())) == (FAILURE, 1)
        assert 'has room for 0.0 MB' in error
    assert not out.exists()
