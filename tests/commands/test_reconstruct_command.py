"""RESULT clauses: what `ptychopinn reconstruct` leaves, and where."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import main, result_files
from ptycho_engine.commands import reconstruct as reconstruct_command
from ptycho_engine.formats.product import read_product
from ptycho_engine.formats.product_validation import find_violations
from ptycho_engine.scan.raw_data import RawData

FILES = {'product.h5', 'reconstruction.npz', 'reconstruction.png'}


def reconstruct(model, output, *words) -> None:
    """Run the command without a refinement."""
    options = ['--model', model, '--output', output, '--refine-iterations', '0', '--quiet']
    assert main(['reconstruct', *map(str, [*words, *options])]) == 0


@pytest.fixture(scope='module')
def bare(directory, model, tmp_path_factory):
    """An NPZ scan without object, its coordinates counted from somewhere, and what was made of it."""
    folder = tmp_path_factory.mktemp('bare')
    raw = RawData.from_file(directory / 'scan.npz')
    scan_index = np.arange(len(raw)) % 2
    bare = {'objectGuess': None, 'xcoords': raw.xcoords - 300.25, 'scan_index': scan_index, 'metadata': {}}
    replace(raw, **bare).to_file(folder / 'bare.npz')
    reconstruct(model, folder / 'out', folder / 'bare.npz')
    return folder / 'bare.npz', folder / 'out'


def test_result_03_an_npz_scan_gets_a_product(bare, model, capsys):
    """With the uncertainty of the object (PRODUCT-08)."""
    _, out = bare
    assert {path.name for path in out.iterdir()} == FILES
    path = out / 'product.h5'
    assert main(['validate-product', str(path)]) == 0
    assert json.loads(capsys.readouterr().out)['name'] == 'bare'
    product = read_product(path)
    with np.load(out / 'reconstruction.npz') as arrays:
        results = json.loads(arrays['_metadata'].item())
        np.testing.assert_array_equal(product.object_array, arrays['objectGuess'][np.newaxis])
        np.testing.assert_array_equal(product.probe[0], arrays['probeGuess'])
        np.testing.assert_allclose(product.positions_px(), [arrays['xcoords'], arrays['ycoords']], atol=1e-6)
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file['ptychopinn_object_uncertainty'], arrays['uncertainty'])
            np.testing.assert_array_equal(file['scan_index'], np.arange(49) % 2)
    assert product.comments == f'estimated pixel sizes\n{results["comments"]}'
    assert product.loss_values.tolist() == results['loss_values']
    assert (product.object_pixel_width_m, product.probe_pixel_width_m) == (5.0e-8, 5.0e-8)


@pytest.mark.ptychodus
def test_result_03_that_product_opens_in_ptychodus(bare):
    io = pytest.importorskip('ptychodus.plugins.h5_product_file')
    source, out = bare
    given, product = RawData.from_file(source), io.H5ProductFileIO().read(out / 'product.h5')
    ours = read_product(out / 'product.h5')
    np.testing.assert_array_equal(product.object_.get_array(), ours.object_array)
    geometry = product.object_.get_geometry()
    points = [geometry.map_coordinates_probe_to_object(position) for position in product.probe_positions]
    np.testing.assert_allclose(np.diff([p.x_px for p in points]), np.diff(given.xcoords), atol=1e-6)
    np.testing.assert_allclose(np.diff([p.y_px for p in points]), np.diff(given.ycoords), atol=1e-6)
    assert len(product.losses) == 2


def test_result_03_pixel_sizes_of_an_npz_scan_are_kept(directory, model, tmp_path):
    raw = RawData.from_file(directory / 'scan.npz')
    known = {'object_pixel_size_m': 2e-8, 'probe_pixel_size_m': 2e-8}
    replace(raw, metadata=raw.metadata | known).to_file(tmp_path / 'scan.npz')
    reconstruct(model, tmp_path / 'out', tmp_path / 'scan.npz')
    product = read_product(tmp_path / 'out' / 'product.h5')
    assert product.object_pixel_width_m == 2e-8
    assert 'estimated' not in product.comments


def test_result_02_several_scans_have_a_folder_each(directory, model, tmp_path, capsys, monkeypatch):
    loaded = []
    load = reconstruct_command.load_model
    monkeypatch.setattr(reconstruct_command, 'load_model', lambda path: loaded.append(path) or load(path))
    (tmp_path / 'other').mkdir()
    RawData.from_file(directory / 'scan.npz').select(np.arange(20)).to_file(tmp_path / 'other' / 'Scan.npz')
    out = tmp_path / 'out'
    reconstruct(model, out, directory / 'scan.npz', directory, tmp_path / 'other' / 'Scan.npz')
    assert len(loaded) == 1
    assert {path.name for path in out.iterdir()} == {'scan-1', directory.name, 'Scan-2'}
    sizes = {'scan-1': 49, directory.name: 49, 'Scan-2': 20}
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if line.startswith('Wrote')]
    assert len(lines) == 3
    for (name, size), line in zip(sizes.items(), lines, strict=True):
        assert {path.name for path in (out / name).iterdir()} == FILES
        assert len(read_product(out / name / 'product.h5').position_x_m) == size
        assert find_violations(out / name / 'product.h5').violations == ()
        assert line.endswith(f'{out / name}.')
    table = [line.split() for line in printed[-4:-1]]
    assert [(cells[0], int(cells[1]), cells[-1]) for cells in table] == [
        (name[:38], size, 'written') for name, size in sizes.items()
    ]
    assert printed[-1] == '3 scans: 3 written.'


def test_result_04_a_folder_holds_the_results_of_one_run(directory, model, tmp_path, monkeypatch):
    """A run that fails leaves those of the one before; one that succeeds leaves nothing of it."""
    out, truth = tmp_path / 'out', ['--truth', directory / 'truth.h5']
    reconstruct(model, out, directory, *truth)
    assert {path.name for path in out.iterdir()} == FILES | {'scores.csv', 'scores.json', 'out.png'}
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    score = json.loads(first['scores.json'])[0]['nrmse']

    def full(*_):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(result_files, 'write_product', full)
        assert (
            main(['reconstruct', str(directory), '--model', str(model), '--output', str(out), '--quiet']) == 1
        )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first

    half = tmp_path / 'half.npz'
    RawData.from_file(directory / 'scan.npz').select(np.arange(0, 49, 2)).to_file(half)
    reconstruct(model, out, half)
    assert {path.name for path in out.iterdir()} == FILES
    assert read_product(out / 'product.h5').name == 'half'
    reconstruct(model, out, half, *truth)
    (row,) = json.loads((out / 'scores.json').read_text())
    assert row['nrmse'] != score
    assert '25 patterns' in row['account']


@pytest.mark.parametrize(
    ('words', 'said'), [((), 'with the learned prior'), (('--model', 'none'), 'by physics alone')]
)
def test_result_07_no_model_is_needed(directory, tmp_path, capsys, words, said):
    """Where none is named, the prior that comes with the package; and no network for 'none'."""
    out = tmp_path / 'out'
    assert main(['reconstruct', str(directory), '--output', str(out), *words, '--quiet']) == 0
    assert said in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == FILES
    product = read_product(out / 'product.h5')
    assert said in product.comments
    assert np.isfinite(product.object_array).all()


@pytest.mark.parametrize('log', ['all.txt', 'log.txt'])
def test_result_07_the_image_is_described_once(directory, tmp_path, monkeypatch, log):
    """By the log where output and log go into one file, and for each of its readers where they do not."""
    with open(tmp_path / 'all.txt', 'a') as out, open(tmp_path / log, 'a') as err:
        monkeypatch.setattr('sys.stdout', out)
        monkeypatch.setattr('sys.stderr', err)
        words = '--model', 'none', '--calibrate', 'off', '--output', str(tmp_path / 'out')
        assert main(['reconstruct', str(directory), *words]) == 0
    monkeypatch.undo()
    for name in {'all.txt', log}:
        text = (tmp_path / name).read_text()
        assert text.count('PtychoPINN by physics alone (run by pytorch): 49 patterns') == 1
