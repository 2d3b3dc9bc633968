"""PRODUCT-2x: every broken rule of a product file is found, all of them at once."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.errors import DataFileNotFoundError, ProductError
from ptycho_engine.formats.product import ProductData, read_product, write_product
from ptycho_engine.formats.product_validation import find_violations

N_SCAN = 6


@pytest.fixture
def path(tmp_path) -> Path:
    """A valid product with every item the contract names."""
    rng = np.random.default_rng(0)

    def wave(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)

    product = ProductData(
        name='gold',
        comments='',
        detector_distance_m=2.0,
        photon_energy_eV=1e4,
        object_array=wave(3, 40, 50),
        object_pixel_width_m=5e-8,
        object_pixel_height_m=5e-8,
        object_layer_spacing_m=np.array([1e-6, 2e-6]),
        probe=wave(2, 3, 8, 8),
        opr_weights=rng.random((N_SCAN, 2)),
        position_photon_counts=rng.random(N_SCAN),
        position_indexes=np.arange(N_SCAN),
        position_x_m=rng.uniform(-5e-7, 5e-7, N_SCAN),
        position_y_m=rng.uniform(-5e-7, 5e-7, N_SCAN),
        loss_epochs=np.arange(3),
        loss_values=np.array([3.0, 2.0, 1.0]),
    )
    write_product(tmp_path / 'p.h5', product)
    return tmp_path / 'p.h5'


def drop_attribute(name: str, owner: str = '/') -> Callable[[h5py.File], None]:
    return lambda file: file[owner].attrs.__delitem__(name)


def attribute(name: str, value: object, owner: str = '/') -> Callable[[h5py.File], None]:
    return lambda file: file[owner].attrs.__setitem__(name, value)


def dataset(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    """Replace a dataset by a changed one with the same attributes."""

    def spoil(file: h5py.File) -> None:
        attributes, value = dict(file[name].attrs), change(file[name][()])
        del file[name]
        file[name] = value
        file[name].attrs.update(attributes)

    return spoil


def drop(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def no_energy(file: h5py.File) -> None:
    del file.attrs['photon_energy_eV'], file.attrs['probe_energy_eV']


def nan_inside(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[-1] = np.nan
    return array


SPOILED: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    'no distance': (
        drop_attribute('detector_object_distance_m'),
        'detector_object_distance_m is missing',
    ),
    'no energy': (no_energy, 'photon_energy_eV (or probe_energy_eV) is missing'),
    'energy is text': (attribute('photon_energy_eV', 'ten keV'), "'ten keV'; expected a finite number"),
    'negative exposure': (attribute('exposure_time_s', -1.0), 'exposure_time_s is -1'),
    'energies differ': (attribute('probe_energy_eV', 1.0), 'differ; they are two names'),
    'real object': (dataset('object', np.abs), 'object is of type float32'),
    'real probe': (dataset('probe', np.abs), 'probe is of type float32'),
    'no object': (drop('object'), 'the dataset object is missing'),
    'probe is a group': (
        lambda file: (drop('probe')(file), file.create_group('probe')),
        'probe is not a dataset',
    ),
    'object of one dimension': (dataset('object', np.ravel), 'object has shape (6000,)'),
    'oblong probe': (dataset('probe', lambda a: a[..., :7]), 'expected square modes'),
    'NaN in the object': (dataset('object', nan_inside), 'object holds NaN'),
    'no centre': (drop_attribute('center_y_m', 'object'), 'center_y_m of object is missing'),
    'negative pixel size': (
        attribute('pixel_width_m', -5e-8, 'object'),
        'pixel_width_m of object is',
    ),
    'zero probe pixel': (attribute('pixel_height_m', 0.0, 'probe'), 'pixel_height_m of probe is'),
    'layer spacing too long': (
        dataset('object_layer_spacing_m', lambda a: np.ones(3)),
        'has 3 entries; expected 2',
    ),
    'no layer spacing': (drop('object_layer_spacing_m'), 'although the object has 3 layers'),
    'no y': (drop('probe_position_y_m'), 'dataset probe_position_y_m is missing'),
    'lengths differ': (dataset('probe_position_x_m', lambda a: a[:-1]), 'lengths differ: probe_position'),
    'NaN position': (dataset('probe_position_x_m', nan_inside), 'probe_position_x_m holds NaN'),
    'text positions': (
        dataset('probe_position_y_m', lambda a: np.array([b'1'] * len(a))),
        'expected real numbers',
    ),
    'index out of range': (dataset('probe_position_indexes', lambda a: a - 1), 'reaches from -1 to 4'),
    'float indexes': (dataset('probe_position_indexes', lambda a: a + 0.5), 'expected integers'),
    'off the object': (
        dataset('probe_position_x_m', lambda a: a + 25 * 5e-8),
        'lie outside the object',
    ),
    'weights of another probe': (
        dataset('opr_weights', lambda a: a[:, :1]),
        'opr_weights has shape (6, 1)',
    ),
    'negative photons': (dataset('probe_photon_counts', np.negative), 'probe_photon_counts holds'),
    'losses differ': (dataset('loss_values', lambda a: a[:-1]), 'loss_epochs has 3, loss_values has 2'),
    'bundle of another scan': (
        lambda file: file.create_dataset('raw_data/diffraction', data=np.ones((4, 8, 8))),
        'expected 6 patterns',
    ),
}


def test_product_20_a_whole_file_breaks_no_rule(path, capsys):
    assert find_violations(path).violations == ()
    assert main(['validate-product', str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        'name': 'gold',
        'n_scan': N_SCAN,
        'probe_shape': [2, 3, 8, 8],
        'object_shape': [3, 40, 50],
    }


@pytest.mark.parametrize('name', SPOILED)
def test_product_21_and_25_each_violation_is_found(path, name):
    spoil, words = SPOILED[name]
    with h5py.File(path, 'a') as file:
        spoil(file)
    found = find_violations(path).violations
    assert any(words in sentence for sentence in found), found


def test_product_22_all_violations_are_reported_at_once(path, capsys):
    together = (
        *('no distance', 'energy is text', 'negative exposure', 'real object', 'real probe', 'oblong probe'),
        *('no centre', 'negative pixel size', 'zero probe pixel', 'layer spacing too long'),
        *('NaN position', 'no y', 'index out of range', 'weights of another probe', 'negative photons'),
        *('losses differ', 'bundle of another scan'),
    )
    with h5py.File(path, 'a') as file:
        for name in together:
            SPOILED[name][0](file)
    found = find_violations(path).violations
    for name in together:
        assert any(SPOILED[name][1] in sentence for sentence in found), (name, found)
    assert main(['validate-product', str(path)]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)['violations'] == list(found)
    assert [line.removeprefix(f'{path}: ') for line in printed.err.splitlines()] == list(found)


@pytest.mark.parametrize('kind', ['truncated', 'truncated late', 'text', 'empty', 'directory', 'no items'])
def test_product_23_files_that_are_no_product(path, tmp_path, kind):
    other, content = tmp_path / 'other', path.read_bytes()
    match kind:
        case 'truncated':
            other.write_bytes(content[: len(content) // 2])
        case 'truncated late':
            other.write_bytes(content[:-64])
        case 'text':
            other.write_text('hello')
        case 'empty':
            other.touch()
        case 'directory':
            other.mkdir()
        case 'no items':
            h5py.File(other, 'w').close()
    assert find_violations(other).violations
    assert main(['validate-product', str(other)]) == 1


def test_product_23_no_file_is_a_mistake_of_the_caller(tmp_path, capsys):
    with pytest.raises(DataFileNotFoundError):
        find_violations(tmp_path / 'none.h5')
    assert main(['validate-product', str(tmp_path / 'none.h5')]) == 2
    assert 'no such file' in capsys.readouterr().err


@pytest.mark.parametrize('name', SPOILED)
def test_product_24_the_reader_raises_nothing_but_its_own_error(path, name):
    with h5py.File(path, 'a') as file:
        SPOILED[name][0](file)
    sentence = ''
    try:
        read_product(path)
    except ProductError as error:
        sentence = str(error)
    # Anything but a ProductError would have ended the test; many a fault does not trouble the reader.
    assert sentence == '' or (str(path) in sentence and len(sentence.splitlines()) == 1)


def test_at_least_25_violations_are_seeded():
    assert len(SPOILED) >= 25


def test_product_24_random_damage_is_a_product_error_or_nothing(path, caplog):
    """Bytes turned over anywhere, and files cut short, and unknown items among what is hit."""
    rng = np.random.default_rng(0)
    with h5py.File(path, 'a') as file:
        file.attrs['beamline'] = 'velociprobe'
        file.create_dataset('notes/mask', data=np.arange(64).reshape(8, 8), compression='gzip')
    whole = path.read_bytes()
    # The arrays fill most of the file; what describes them is at its beginning and its end.
    telling = np.r_[0:6000, len(whole) - 12000 : len(whole)]
    outcomes = set()
    for turn in range(150):
        content = bytearray(whole)
        for position in rng.choice(telling, 4):
            content[position] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content))] if turn % 5 == 0 else content)
        sound = not find_violations(path).violations
        try:
            read_product(path)
        except ProductError:
            assert not sound
        outcomes.add(sound)
    assert outcomes == {True, False}
