import itertools
import re
import shutil
import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest
from ptychodus.api.io import load_diffraction_data, load_product
from ptychodus.api.reconstruct import prepare_reconstruct_input

from ptycho_engine.errors import DataFileNotFoundError, DataKeyError, DataValueError, ProductError
from ptycho_engine.formats.diffraction_file import (
    AssembledPatterns,
    read_diffraction_file,
    write_diffraction_file,
)
from ptycho_engine.formats.product import read_product, write_product
from ptycho_engine.io import staging
from ptycho_engine.scan.product_exchange import export_product_from_rawdata
from ptycho_engine.scan.scan import Scan, find_training_scans, load_scan, load_training_scans
from ptycho_engine.scan.scan_directory import write_scan_directory
from ptycho_engine.simulate.directory import settings_text, write_scan
from ptycho_engine.simulate.template import load_templates
from tests.conftest import small_scan


@pytest.fixture
def directory(tmp_path):
    mask = np.zeros((32, 32), bool)
    mask[3, 4:9] = True
    raw = small_scan(points=4, size=32, bad_pixels=mask)
    write_scan(tmp_path, raw, name='x', settings=settings_text(1, 1))
    return tmp_path


def test_dir_01_npz_and_directory_give_the_same_scan(directory):
    from_npz = load_scan(directory / 'scan.npz').raw
    from_directory = load_scan(directory).raw
    np.testing.assert_allclose(from_directory.diffraction, from_npz.diffraction, rtol=1e-6)
    np.testing.assert_allclose(from_directory.xcoords, from_npz.xcoords, atol=1e-6)
    np.testing.assert_allclose(from_directory.ycoords, from_npz.ycoords, atol=1e-6)
    np.testing.assert_array_equal(from_directory.probeGuess, from_npz.probeGuess)
    np.testing.assert_array_equal(from_directory.bad_pixels, from_npz.bad_pixels)


@pytest.mark.ptychodus
@pytest.mark.parametrize('seed', range(4))
def test_dir_02_patterns_join_positions_as_in_ptychodus(directory, seed):
    """Duplicates are averaged, gaps interpolated, and patterns out of range dropped."""
    rng = np.random.default_rng(seed)
    patterns = read_diffraction_file(directory / 'diffraction.h5')
    indexes = np.sort(rng.choice(24, 16, replace=False))
    indexes[rng.integers(16)] = -1
    write_diffraction_file(directory / 'diffraction.h5', replace(patterns, indexes=indexes))
    product = read_product(directory / 'product.h5')
    position_indexes = np.sort(rng.integers(2, 22, 16))
    write_product(directory / 'product.h5', replace(product, position_indexes=position_indexes))

    found = load_scan(directory)
    expected = prepare_reconstruct_input(
        load_diffraction_data(directory / 'diffraction.h5'), load_product(directory / 'product.h5')
    )
    assert found.product is not None
    points = list(expected.product.probe_positions)
    np.testing.assert_array_equal(found.product.position_indexes, [p.index for p in points])
    np.testing.assert_allclose(found.product.position_x_m, [p.x_m for p in points])
    np.testing.assert_allclose(found.product.position_y_m, [p.y_m for p in points])
    np.testing.assert_allclose(
        found.raw.diffraction**2,
        np.where(patterns.bad_pixels, 0, expected.diffraction_patterns),
        rtol=1e-5,
        atol=1e-3,
    )


@pytest.mark.parametrize(
    ('change', 'flag'),
    [
        ({'photon_energy_eV': 0.0}, 'photon_energy_eV is 0.0.*--energy-eV'),
        ({'detector_distance_m': 0.0}, 'detector_distance_m is 0.0.*--distance-m'),
    ],
)
def test_dir_04_a_directory_needs_energy_and_distance(directory, tmp_path, change, flag):
    scan = load_scan(directory)
    out = tmp_path / 'out'
    with pytest.raises(DataValueError, match=flag):
        write_scan_directory(out, replace(scan, product=replace(scan.product, **change)))
    assert not out.exists()


def test_training_directories(directory, tmp_path):
    assert find_training_scans(directory) == [directory]
    (directory / 'diffraction.h5').unlink()
    assert find_training_scans(directory) == [directory / 'scan.npz']
    assert len(load_training_scans(directory)) == 1
    empty = tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(DataFileNotFoundError, match='no training data'):
        load_training_scans(empty)


def test_fmt_04_a_training_directory_may_hold_products_with_their_patterns(directory):
    (directory / 'diffraction.h5').unlink()
    raw = load_scan(directory / 'scan.npz').raw
    export_product_from_rawdata(raw, directory / 'b.HDF5', include_diffraction=True)
    export_product_from_rawdata(raw, directory / 'without.h5')
    (directory / 'damaged.h5').write_text('no')
    expected = [directory / 'b.HDF5', directory / 'scan.npz']
    assert find_training_scans(directory) == expected
    from_product, from_npz = (scan.raw for scan in load_training_scans(directory))
    np.testing.assert_array_equal(from_product.diffraction, from_npz.diffraction)
    assert [scan.raw.path for scan in load_templates(directory)] == expected


@pytest.mark.parametrize('wrong', [np.nan, np.inf, 1e30, 0.5])
def test_indexes_that_are_no_whole_numbers_are_refused(directory, wrong):
    """A cast would make them some number, and the pattern another position's."""
    with h5py.File(directory / 'diffraction.h5', 'a') as file:
        indexes = file['indexes'][()].astype(float)
        del file['indexes']
        file['indexes'] = indexes
    assert len(load_scan(directory).raw) == len(indexes)
    with h5py.File(directory / 'diffraction.h5', 'a') as file:
        file['indexes'][1] = wrong
    with pytest.raises(DataValueError, match='whole numbers'):
        load_scan(directory)


def test_npz_08_what_is_missing_is_one_error_that_says_what_is_needed_and_what_is_there(directory):
    """For NPZ and HDF5 alike; it is a `KeyError` too."""
    with np.load(directory / 'scan.npz') as file:
        arrays = dict(file)
    del arrays['probeGuess'], arrays['ycoords']
    np.savez(directory / 'lacks.npz', **arrays)
    with h5py.File(directory / 'diffraction.h5', 'a') as file:
        del file['bad_pixels'], file['indexes']
    cases = [
        ('lacks.npz', 'probeGuess ycoords', 'probeGuess xcoords ycoords', 'diffraction xcoords'),
        ('diffraction.h5', 'bad_pixels indexes', 'patterns indexes bad_pixels', 'patterns'),
    ]
    for name, missing, needed, found in cases:
        with pytest.raises(KeyError) as caught:
            load_scan(directory / name)
        lacks, _, rest = str(caught.value).partition('; expected ')
        expected, _, there = rest.partition(', found ')
        assert str(directory / name) in lacks
        for words, text in ((missing, lacks), (needed, expected), (found, there)):
            assert set(words.split()) <= set(re.findall(r'\w+', text)), (words, text)
        assert not set(missing.split()) & set(re.findall(r'\w+', there))


def test_mistakes_are_named(directory):
    import h5py

    with h5py.File(directory / 'diffraction.h5', 'a') as file:
        del file['bad_pixels']
    with pytest.raises(DataKeyError, match="lacks 'bad_pixels'"):
        load_scan(directory)
    (directory / 'diffraction.h5').write_text('no')
    with pytest.raises(DataValueError, match='not a readable HDF5'):
        load_scan(directory)
    (directory / 'diffraction.h5').unlink()
    with pytest.raises(DataFileNotFoundError, match=r'diffraction\.h5'):
        load_scan(directory)


@pytest.mark.parametrize('known', [False, True])
def test_dir_05_positions_in_another_unit_are_refused_before_they_fill_the_memory(known):
    raw = small_scan(points=5)
    if not known:
        raw = replace(raw, objectGuess=None)
    Scan.from_raw(raw)
    far = replace(raw, xcoords=1000 * raw.xcoords, ycoords=1000 * raw.ycoords)
    with pytest.raises(DataValueError, match=r'25 patterns of 64×64 pixels .* object pixels'):
        Scan.from_raw(far)


def test_oblong_patterns_and_foreign_products_are_refused(directory):
    patterns = read_diffraction_file(directory / 'diffraction.h5')
    oblong = AssembledPatterns(
        patterns.counts[:, :30], patterns.indexes, patterns.bad_pixels[:30], 1e-4, 1e-4
    )
    write_diffraction_file(directory / 'diffraction.h5', oblong)
    with pytest.raises(DataValueError, match='square'):
        load_scan(directory)
    write_diffraction_file(directory / 'diffraction.h5', replace(patterns, indexes=patterns.indexes + 1000))
    with pytest.raises(DataValueError, match='do not overlap'):
        load_scan(directory)
    (directory / 'product.h5').write_text('no')
    with pytest.raises(ProductError, match='not a readable HDF5'):
        load_scan(directory)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'indexes': -np.arange(16)}, r'indexes reaches from -15 to 0; expected whole numbers from -1 to'),
        ({'indexes': np.arange(16) + 0.5}, 'indexes holds values that are no whole numbers'),
        ({'indexes': np.full(16, np.nan)}, 'indexes holds values that are no whole numbers'),
        ({'indexes': np.arange(16, dtype=np.uint64) + 2**63}, 'indexes reaches from 9223372036854775808'),
        ({'indexes': np.full(16, -1)}, 'every index is -1; no pattern was measured yet'),
        (
            {'patterns': np.ones((0, 32, 32)), 'indexes': np.arange(0)},
            r'patterns have .*; the file holds no pattern',
        ),
    ],
)
def test_dir_07_indexes_that_number_nothing_are_refused(directory, change, sentence):
    path = directory / 'diffraction.h5'
    with h5py.File(path, 'r+') as file:
        for key, values in change.items():
            del file[key]
            file[key] = values
    with pytest.raises(DataValueError, match=rf'^{re.escape(str(path))}: {sentence}'):
        load_scan(directory)


@pytest.mark.parametrize('indexes', [np.arange(16) / 2, np.arange(16, dtype=np.uint64) + 2**63])
def test_dir_07_the_indexes_of_a_product_are_neither_rounded_nor_wrapped_around(directory, indexes):
    path = directory / 'product.h5'
    with h5py.File(path, 'r+') as file:
        del file['probe_position_indexes']
        file['probe_position_indexes'] = indexes
    with pytest.raises(ProductError, match=r'probe_position_indexes (holds|reaches)'):
        load_scan(directory)


def test_disk_06_hidden_files_are_no_data_and_what_is_taken_is_told(directory, tmp_path, caplog):
    caplog.set_level('INFO')
    folder = tmp_path / 'many'
    folder.mkdir()
    for name in ('b.npz', 'a.npz', '.hidden.npz', '.scan.npz.0000.npz'):
        shutil.copy(directory / 'scan.npz', folder / name)
    (folder / '.pair').mkdir()
    for name in ('diffraction.h5', 'product.h5'):
        shutil.copy(directory / name, folder / '.pair')
    (folder / '.half.npz').write_bytes(b'half')
    assert [path.name for path in find_training_scans(folder)] == ['a.npz', 'b.npz']
    assert len(load_training_scans(folder)) == 2
    assert f'{folder}: taking a.npz, b.npz' in caplog.text


def test_disk_06_a_folder_is_read_while_a_file_is_written_there(directory, tmp_path):
    folder = tmp_path / 'growing'
    folder.mkdir()
    shutil.copy(directory / 'scan.npz', folder / 'a.npz')
    raw = load_scan(folder / 'a.npz').raw
    done, at_work = threading.Event(), 0

    def write():
        for number in itertools.count():
            if done.is_set():
                return
            raw.to_file(folder / f'b{number}.npz')
            (folder / f'b{number}.npz').rename(tmp_path / 'elsewhere.npz')

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(200):
            at_work += any(path.suffix == '.part' for path in folder.iterdir())
            assert find_training_scans(folder)[0] == folder / 'a.npz'
            assert all(path.name[0] in 'ab' for path in find_training_scans(folder))
    finally:
        done.set()
        thread.join()
    # Some must have been read in the middle of writing, or the test proves nothing.
    assert at_work > 2
    assert [path.name for path in folder.iterdir()] == ['a.npz']
    assert len(load_training_scans(folder)) == 1


def test_result_06_and_disk_04_a_scan_that_was_being_replaced_is_completed_before_it_is_read(
    directory, tmp_path, caplog
):
    scan = load_scan(directory)
    out = tmp_path / 'out'
    write_scan_directory(out, scan)
    half = replace(scan, raw=scan.raw.select(np.arange(5)), product=replace_positions(scan.product, 5))
    finish, name = staging._finish, staging.__name__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f'{name}._finish', lambda folder: None)
        write_scan_directory(out, half)
    assert finish is staging._finish
    assert (out / staging.COMPLETE).is_dir()
    assert len(load_scan(out).raw) == 5
    assert 'they are complete now' in caplog.text
    assert sorted(path.name for path in out.iterdir()) == ['diffraction.h5', 'product.h5']


def replace_positions(product, n):
    return replace(
        product,
        position_indexes=product.position_indexes[:n],
        position_x_m=product.position_x_m[:n],
        position_y_m=product.position_y_m[:n],
        position_photon_counts=None,
        opr_weights=None,
    )
