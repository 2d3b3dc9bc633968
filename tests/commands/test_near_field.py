"""DIR-08: a product of the near field is refused in one sentence wherever its patterns would be used."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine import RawData, Scan, import_product_to_rawdata, load_scan
from ptycho_engine.commands import main
from ptycho_engine.errors import DataValueError
from ptycho_engine.formats.diffraction_file import read_diffraction_file
from ptycho_engine.formats.product import read_product
from ptycho_engine.scan.scan import raw_data_from_counts

SENTENCE = 'far_field of the product is False, but the near field'


def of_near_field(product: Path) -> Path:
    with h5py.File(product, 'r+') as file:
        file.attrs['far_field'] = False
    return product


@pytest.fixture
def near(directory, tmp_path) -> Path:
    """A Ptychodus directory of the near field."""
    shutil.copytree(directory, tmp_path / 'near')
    of_near_field(tmp_path / 'near' / 'product.h5')
    return tmp_path / 'near'


@pytest.fixture
def bundle(directory, tmp_path) -> Path:
    """A product of the near field that holds its patterns."""
    arguments = ['--output', str(tmp_path / 'bundle.h5'), '--quiet']
    assert main(['convert', str(directory), *arguments]) == 0
    return of_near_field(tmp_path / 'bundle.h5')


DOORS = {
    'doctor': ['doctor', '{near}'],
    'train': ['train', '{near}', '--epochs', '1', '--output', '{out}'],
    'train on objects': ['train', '--simulate-from', '{near}', '--epochs', '1', '--output', '{out}'],
    'reconstruct': ['reconstruct', '{near}', '--output', '{out}'],
    'reconstruct the product': ['reconstruct', '{near}/product.h5', '--output', '{out}'],
    'reconstruct a bundle': ['reconstruct', '{bundle}', '--output', '{out}'],
    'patterns and positions': [
        *('reconstruct', '{near}/diffraction.h5', '--positions', '{near}/product.h5', '--output', '{out}'),
        *('--probe', '{far}/scan.npz'),
    ],
    'patterns and probe': [
        *('reconstruct', '{far}/diffraction.h5', '--positions', '{far}/product.h5', '--output', '{out}'),
        *('--probe', '{near}/product.h5'),
    ],
    'made square': ['reconstruct', '{near}', '--square', 'crop', '--output', '{out}'],
    'live': ['live', '--replay', '{near}', '--output', '{out}'],
    'prepare': ['prepare', '{near}', '--crop', '32', '--output', '{out}'],
    'convert': ['convert', '{near}', '--output', '{out}.cxi'],
}


@pytest.mark.parametrize('door', DOORS)
def test_dir_08_no_command_makes_a_far_field_image_of_it(door, near, bundle, directory, tmp_path, capsys):
    words = [
        word.format(near=near, bundle=bundle, far=directory, out=tmp_path / 'out') for word in DOORS[door]
    ]
    capsys.readouterr()
    code = main(words)
    said = capsys.readouterr()
    text = ' '.join((said.out if door == 'doctor' else said.err).split())
    assert code == (1 if door == 'doctor' else 2)
    assert text.count(SENTENCE) == 1
    assert 'Traceback' not in text
    assert not list(tmp_path.glob('out*'))


def test_dir_08_nor_does_python(near, bundle):
    far = load_scan_as_if_far(near)
    product = read_product(near / 'product.h5')
    counts = read_diffraction_file(near / 'diffraction.h5').counts
    for door in (
        lambda: load_scan(near),
        lambda: load_scan(bundle),
        lambda: import_product_to_rawdata(bundle),
        lambda: raw_data_from_counts(counts, None, product, 'a scan'),
        lambda: Scan(far, product.grid, product),
    ):
        with pytest.raises(DataValueError, match=SENTENCE):
            door()
    # Positions and probe alone make no image.
    assert len(import_product_to_rawdata(near / 'product.h5').diffraction) == 0


def load_scan_as_if_far(near: Path) -> RawData:
    product = near.parent / 'far.h5'
    shutil.copy(near / 'product.h5', product)
    with h5py.File(product, 'r+') as file:
        file.attrs['far_field'] = True
    raw = import_product_to_rawdata(product)
    ones = np.ones((len(raw.xcoords), raw.N, raw.N), np.float32)
    return RawData(ones, raw.probeGuess, raw.xcoords, raw.ycoords)
