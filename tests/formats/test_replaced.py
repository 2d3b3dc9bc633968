"""Scans that are replaced while they are read, as our own commands do, are never of two runs (MEM-12)."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine.errors import DataValueError, ProductError
from ptycho_engine.formats import npz_scan
from ptycho_engine.scan import product_exchange, scan
from ptycho_engine.scan.product_exchange import export_product_from_rawdata
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import load_scan
from ptycho_engine.simulate.directory import write_scan
from tests.conftest import small_scan

# Alike but for the numbers, so that nothing but the states of the files tells a mixture.
ONE, OTHER = (small_scan(points=3, size=32, seed=seed) for seed in (0, 1))


def npz(path: Path, raw: RawData) -> Path:
    raw.to_file(path)
    return path


def product(path: Path, raw: RawData) -> Path:
    export_product_from_rawdata(raw, path, include_diffraction=True)
    return path


def directory(path: Path, raw: RawData) -> Path:
    write_scan(path, raw, name='scan', settings='')
    return path


KINDS = {
    'npz': (npz, npz_scan, 'read_arrays'),
    'product': (product, product_exchange, 'read_bundle'),
    'directory': (directory, scan, 'read_product'),
}


@pytest.fixture(params=KINDS)
def replaced(request, tmp_path, monkeypatch):
    """Return a scan that is replaced by another as often as asked for, always between two of its openings."""
    write, module, second = KINDS[request.param]
    path = tmp_path / {'npz': 'scan.npz', 'product': 'scan.h5', 'directory': 'scan'}[request.param]
    write(path, ONE)
    reader = getattr(module, second)
    times = []

    def replace(count: int) -> Path:
        def late(*args, **kwargs):
            if len(times) < count:
                times.append(1)
                write(path, OTHER)
            return reader(*args, **kwargs)

        monkeypatch.setattr(module, second, late)
        return path

    return replace


def test_mem_12_a_scan_that_is_replaced_while_it_is_read_is_read_again(replaced):
    found = load_scan(replaced(1)).raw
    np.testing.assert_allclose(found.probeGuess, OTHER.probeGuess)
    np.testing.assert_allclose(found.xcoords - found.xcoords[0], OTHER.xcoords - OTHER.xcoords[0], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(found.diffraction[:]), np.asarray(OTHER.diffraction[:]))


def test_mem_12_one_that_is_replaced_all_the_time_is_refused(replaced):
    with pytest.raises(DataValueError, match='changed while it was read'):
        load_scan(replaced(10))


def test_mem_12_what_is_wrong_with_a_scan_is_told_once(tmp_path, monkeypatch):
    path = directory(tmp_path / 'scan', ONE)
    with h5py.File(path / 'product.h5', 'a') as file:
        del file['probe']
    calls, reader = [], scan.read_product

    def counted(*args, **kwargs):
        calls.append(1)
        return reader(*args, **kwargs)

    monkeypatch.setattr(scan, 'read_product', counted)
    with pytest.raises(ProductError, match='probe'):
        load_scan(path)
    assert len(calls) == 1
