"""What `ptychopinn import-upstream` writes of files of the original PtychoPINN (IMPORT-03 to IMPORT-05)."""

import json
import os
import shutil
import zipfile

import h5py
import numpy as np
import pytest

from ptycho_engine import RawData, load_archive, load_scan, read_product
from ptycho_engine.commands import main
from ptycho_engine.config.files import read_sections
from ptycho_engine.errors import ArchiveError
from tests.conftest import small_scan
from tests.scan.test_product_exchange import written_by_the_original

PICKLE = b'\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch hacked\x85R.'
"""It would run a command if it were unpickled."""


@pytest.fixture(scope='module')
def raw():
    return small_scan(points=5)


def write_npz(path, raw):
    """Write a scan as the original does: normalised, in double precision and the legacy order of axes."""
    metadata = {'schema_version': '1.0.0', 'physics_parameters': {'nphotons': 1e5, 'N': 64}}
    np.savez(
        path,
        diff3d=np.moveaxis(raw.diffraction * (0.9 / raw.diffraction.max()), 0, -1).astype(np.float64),
        probeGuess=raw.probeGuess[0].astype(np.complex128),
        objectGuess=raw.objectGuess,
        xcoords=raw.xcoords,
        ycoords=raw.ycoords,
        scan_index=np.arange(len(raw)),
        label=np.array('fly'),
        _metadata=np.array(json.dumps(metadata), dtype=object),
    )


def write_model(path, *members):
    with zipfile.ZipFile(path, 'w') as file:
        for member in members:
            file.writestr(member, PICKLE)


@pytest.fixture
def theirs(tmp_path, monkeypatch, raw):
    """A folder with one file of each kind; the current one."""
    monkeypatch.chdir(tmp_path)
    write_npz('scan.npz', raw)
    written_by_the_original(tmp_path / 'bundle.h5', raw)
    shutil.copy('bundle.h5', 'plain.h5')
    with h5py.File('plain.h5', 'r+') as file:
        del file['raw_data']
    (tmp_path / 'config.yaml').write_text('n_images: 64\nN: 64\nprobe_scale: 1.0\nnepochs: 3\nfoo: 1\n')
    run = tmp_path / 'run'
    (run / 'checkpoints').mkdir(parents=True)
    write_model(run / 'wts.h5.zip', 'manifest.dill', 'autoencoder/model.keras', 'autoencoder/params.dill')
    write_model(run / 'checkpoints' / 'last.ckpt', 'archive/data.pkl', 'archive/data/0')
    (run / 'history.dill').write_bytes(PICKLE)
    (run / 'hparams.yaml').write_text('config: !!python/object:x.Y {}\n')
    (run / 'metrics.csv').write_text('epoch,loss\n')
    (run / '.hidden').write_text('')
    shutil.copy('config.yaml', run / 'settings.yaml')
    return tmp_path


def test_import_03_a_scan_is_written_as_ours(theirs, raw, capsys):
    assert main(['import-upstream', 'scan.npz', '--output', 'ours', '--quiet']) == 0
    back = RawData.from_file(theirs / 'ours' / 'scan.npz')
    np.testing.assert_allclose(back.diffraction, raw.diffraction, rtol=1e-4)
    assert (back.original_axis_order, back.original_domain) == ('n,H,W', 'amplitude')
    assert not back.labels.any()
    np.testing.assert_array_equal(back.scan_index, np.arange(len(raw)))
    assert back.metadata['physics_parameters']['nphotons'] == 1e5
    told = ' '.join(capsys.readouterr().out.split())
    for words in (
        'changed diff3d named diffraction, (25, 64, 64), was (64, 64, 25), the square root of counts',
        'changed probeGuess complex64, was complex128',
        'kept xcoords',
        'kept scan_index the number of each scan point',
        'changed _metadata as plain text; it was pickled, and nothing of it was run',
        'dropped label nothing here has a use for it',
        'found patterns the amplitudes are normalised',
    ):
        assert words in told


def test_import_03_products_and_settings_are_written_as_ours(theirs, raw, capsys):
    assert main(['import-upstream', 'bundle.h5', 'config.yaml', '--output', 'ours', '--quiet']) == 0
    scan = load_scan(theirs / 'ours' / 'bundle.h5')
    np.testing.assert_allclose(scan.raw.xcoords, raw.xcoords, atol=1e-6)
    np.testing.assert_allclose(scan.raw.diffraction[:], raw.diffraction, rtol=1e-4)
    # Ptychodus counts from the centre.
    np.testing.assert_allclose(scan.product.positions_px()[1], raw.ycoords, atol=1e-6)
    assert main(['validate-product', 'ours/bundle.h5']) == 0
    sections = read_sections(theirs / 'ours' / 'config.toml')
    assert sections['training'] == {'n_groups': 64, 'nepochs': 3}
    assert sections['model'] == {}
    told = ' '.join(capsys.readouterr().out.split())
    for words in (
        'changed probe_position_*_m from the centre of the object; they counted from its first pixel',
        'changed n_images = 64 training.n_groups = 64',
        'dropped N = 64 the size of the patterns is read from the data',
        "dropped probe_scale = 1.0 it is of the network 'cnn'",
        'dropped foo = 1 no setting has this name',
        'kept nepochs = 3',
    ):
        assert words in told


def test_import_05_positions_that_fit_from_the_first_pixel_alone_are_moved(theirs, raw):
    assert main(['import-upstream', 'plain.h5', '--output', 'ours', '--quiet']) == 0
    moved = read_product(theirs / 'ours' / 'plain.h5')
    np.testing.assert_allclose(moved.positions_px()[0], raw.xcoords, atol=1e-6)
    # What lies on its object already stays.
    assert main(['import-upstream', 'ours/plain.h5', '--output', 'again', '--quiet']) == 0
    again = read_product(theirs / 'again' / 'plain.h5')
    np.testing.assert_array_equal(again.position_x_m, moved.position_x_m)


def test_import_03_an_object_without_patterns_becomes_a_product(theirs, raw, run1084):
    np.savez(theirs / 'object.npz', **run1084)
    assert main(['import-upstream', 'object.npz', '--output', 'ours', '--quiet']) == 0
    product = read_product(theirs / 'ours' / 'object.h5')
    np.testing.assert_allclose(product.positions_px()[0], run1084['xcoords'], atol=1e-6)
    np.testing.assert_allclose(product.object_array[0], run1084['objectGuess'], rtol=1e-6)


def test_import_03_a_run_folder_and_nothing_is_replaced(theirs, capsys):
    assert main(['import-upstream', 'run', '--output', 'ours', '--quiet']) == 0
    told = capsys.readouterr().out
    for words in (
        'left: run/wts.h5.zip is a model of the original PtychoPINN (TensorFlow), which cannot be brought',
        'left: run/checkpoints/last.ckpt is a checkpoint of PyTorch or Lightning',
        'left: run/history.dill is a pickle of Python objects, which are never executed here.',
        'left: run/hparams.yaml is not a readable settings file',
        'left: run/metrics.csv is neither a scan nor a product nor settings of the original.',
        'Wrote 1 file to ours.',
    ):
        assert words in told
    assert os.listdir(theirs / 'ours') == ['settings.toml']
    before = (theirs / 'ours' / 'settings.toml').read_bytes()
    (theirs / 'run' / 'settings.yaml').write_text('n_images: 9\n')
    assert main(['import-upstream', 'run', '--output', 'ours', '--quiet']) == 2
    assert 'ours/settings.toml is there already; give --overwrite' in capsys.readouterr().err
    assert (theirs / 'ours' / 'settings.toml').read_bytes() == before
    assert main(['import-upstream', 'run', '--output', 'ours', '--overwrite', '--quiet']) == 0
    assert read_sections(theirs / 'ours' / 'settings.toml')['training'] == {'n_groups': 9}
    assert not (theirs / 'hacked').exists()


def test_import_03_one_that_fails_does_not_end_the_list(theirs, capsys):
    (theirs / 'broken.npz').write_bytes((theirs / 'scan.npz').read_bytes()[:5000])
    (theirs / 'empty').mkdir()
    (theirs / 'bad.yaml').write_text('n_images: -3\n')
    (theirs / 'plain.yaml').write_text('colour: red\n')
    words = [
        'missing.npz',
        'broken.npz',
        'empty',
        'bad.yaml',
        'plain.yaml',
        'run/metrics.csv',
        'run/wts.h5.zip',
    ]
    assert main(['import-upstream', *words, 'scan.npz', '--output', 'ours', '--quiet']) == 2
    printed = capsys.readouterr()
    assert len(printed.err.strip().splitlines()) == len(words)
    for sentence in (
        'missing.npz: there is no such file.',
        'broken.npz is not a readable NPZ file',
        'empty holds no files',
        '--groups is -3; expected a whole number at least 1.',
        'plain.yaml holds no setting that has a meaning here',
        'run/wts.h5.zip is a model of the original PtychoPINN (TensorFlow)',
    ):
        assert sentence in printed.err
    assert os.listdir(theirs / 'ours') == ['scan.npz']


@pytest.mark.parametrize(
    ('members', 'what'),
    [
        (('manifest.dill', 'a/model.keras'), 'a model of the original PtychoPINN (TensorFlow)'),
        (('manifest.dill', 'd/model.pth', 'd/params.dill'), 'a model of the original PtychoPINN (PyTorch)'),
        (('runs/best.ckpt',), 'a model of the original PtychoPINN (PyTorch)'),
        (('archive/data.pkl', 'archive/version'), 'a checkpoint of PyTorch or Lightning'),
        (('metadata.json', 'config.json', 'model.weights.h5'), 'a model of Keras'),
        ((), 'a pickle of Python objects, which are never executed here'),
        (None, 'a file of weights of Keras'),
        ('weights', 'a file of weights of Keras'),
    ],
)
def test_import_04_a_model_of_another_program_is_told_by_name(theirs, members, what, capsys):
    path = theirs / 'wts.h5.zip'
    if members is None or members == 'weights':
        with h5py.File(path, 'w') as file:
            for name in ('model_weights',) if members is None else ('layers', 'vars'):
                file.create_group(name)
    elif members:
        write_model(path, *members)
    else:
        path.write_bytes(PICKLE)
    with pytest.raises(ArchiveError) as error:
        load_archive(theirs)
    assert what in str(error.value)
    assert main(['reconstruct', 'scan.npz', '--model', '.', '--output', 'out', '--quiet']) == 2
    assert what in capsys.readouterr().err
    assert not (theirs / 'out').exists()
    assert not (theirs / 'hacked').exists()
