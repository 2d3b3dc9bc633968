import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptycho_engine.errors import DataFileNotFoundError, DataKeyError, DataValueError
from ptycho_engine.formats.npz import choose_pattern_key, decide_axis_order
from ptycho_engine.reconstruction.evaluate import read_object
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scoring.scores import scan_box
from ptycho_engine.simulate.sources import read_mask, read_positions, read_probe
from ptycho_engine.simulate.sources import read_object as simulation_object
from tests.conftest import small_scan


@given(n=st.integers(1, 80), size=st.integers(1, 80))
def test_npz_03_only_the_number_of_positions_decides(n, size):
    assert decide_axis_order((n, size, size), n, 'x') == 'n,H,W'
    if n != size:
        assert decide_axis_order((size, size, n), n, 'x') == 'H,W,n'


@given(a=st.integers(1, 40), b=st.integers(1, 40), c=st.integers(1, 40), n=st.integers(1, 40))
def test_npz_03_what_does_not_fit_is_refused(a, b, c, n):
    fits = (a == n and b == c) or (c == n and a == b)
    if fits:
        decide_axis_order((a, b, c), n, 'x')
    else:
        with pytest.raises(DataValueError, match='fit neither'):
            decide_axis_order((a, b, c), n, 'x')


def test_npz_03_a_cube_warns_and_can_be_overridden(caplog):
    assert decide_axis_order((64, 64, 64), 64, 'cube') == 'n,H,W'
    assert 'axis_order' in caplog.text
    assert decide_axis_order((64, 64, 64), 64, 'cube', 'H,W,n') == 'H,W,n'
    with pytest.raises(DataValueError):
        decide_axis_order((10, 64, 64), 10, 'x', 'H,W,n')


def test_npz_02_prefers_diffraction_and_names_both_keys():
    assert choose_pattern_key(['diff3d', 'diffraction'], 'f') == 'diffraction'
    assert choose_pattern_key(['diff3d'], 'f') == 'diff3d'
    with pytest.raises(KeyError, match=r"f holds no.*'diffraction'.*'diff3d'.*xcoords"):
        choose_pattern_key(['xcoords'], 'f')


def arrays_of(raw):
    return {
        'diffraction': raw.diffraction,
        'probeGuess': raw.probeGuess[0],
        'xcoords': raw.xcoords,
        'ycoords': raw.ycoords,
        'objectGuess': raw.objectGuess,
    }


@pytest.fixture(scope='module')
def small():
    return small_scan(points=3, size=32)


def assert_same_scan(a: RawData, b: RawData):
    np.testing.assert_allclose(a.diffraction, b.diffraction, rtol=1e-6)
    for name in ('probeGuess', 'xcoords', 'ycoords', 'objectGuess'):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize('vintage', ['canonical', 'legacy', 'diff3d', 'counts', 'stated', 'modes'])
def test_npz_01_to_05_every_vintage_gives_the_same_scan(tmp_path, small, vintage):
    arrays = arrays_of(small)
    counts = np.rint(small.diffraction.astype(float) ** 2)
    match vintage:
        case 'legacy':
            arrays['diffraction'] = small.diffraction.transpose(1, 2, 0).astype(np.float64)
            arrays['probeGuess'] = arrays['probeGuess'].astype(np.complex128)
        case 'diff3d':
            arrays['diff3d'] = arrays.pop('diffraction')
        case 'counts':
            arrays['diffraction'] = counts.astype(np.uint16)
        case 'stated':
            arrays['diffraction'] = counts
            arrays['_metadata'] = np.array(json.dumps({'measurement_domain': 'counts'}))
        case 'modes':
            arrays['probeGuess'] = small.probeGuess[np.newaxis]
    np.savez(tmp_path / 'scan.npz', **arrays)
    read = RawData.from_file(tmp_path / 'scan.npz')
    assert_same_scan(read, small)
    assert read.diffraction.dtype == np.float32
    assert read.diffraction.flags.c_contiguous


def test_npz_18_columns_and_rows_as_matlab_writes_them(tmp_path, small):
    n = len(small)
    index = np.arange(n) // 4
    columns = {
        'xcoords': small.xcoords[:, None],
        'ycoords': small.ycoords[None],
        'xcoords_start': small.xcoords[:, None],
        'scan_index': index[:, None].astype(float),
        'bad_pixels': np.zeros((32, 32)),
    }
    np.savez(tmp_path / 'scan.npz', **{**arrays_of(small), **columns})
    read = RawData.from_file(tmp_path / 'scan.npz')
    assert_same_scan(read, small)
    np.testing.assert_array_equal(read.xcoords_start, small.xcoords)
    np.testing.assert_array_equal(read.scan_index, index)
    x, y = read_positions(tmp_path / 'scan.npz')
    np.testing.assert_array_equal([x, y], [small.xcoords, small.ycoords])
    found = read_object(tmp_path / 'scan.npz')
    assert found.box() == scan_box(small.xcoords, small.ycoords, small.objectGuess.shape)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 6),
    size=st.sampled_from([8, 12]),
    modes=st.integers(1, 3),
    seed=st.integers(0, 1000),
    with_object=st.booleans(),
)
def test_npz_07_and_17_write_and_read_give_the_same_scan(tmp_path, n, size, modes, seed, with_object):
    rng = np.random.default_rng(seed)
    raw = RawData(
        diffraction=rng.random((n, size, size)),
        probeGuess=rng.standard_normal((modes, size, size)) + 0j,
        xcoords=rng.random(n),
        ycoords=rng.random(n),
        objectGuess=rng.standard_normal((20, 21)) + 1j if with_object else None,
        scan_index=np.arange(n),
        bad_pixels=rng.random((size, size)) < 0.1,
        metadata={'note': 'μ'},
    )
    raw.to_file(tmp_path / 'x.npz')
    read = RawData.from_file(tmp_path / 'x.npz')
    for name in ('diffraction', 'probeGuess', 'xcoords', 'ycoords', 'scan_index', 'bad_pixels'):
        np.testing.assert_array_equal(getattr(read, name), getattr(raw, name))
    assert (read.objectGuess is None) == (not with_object)
    assert read.metadata['note'] == 'μ'
    assert [p.name for p in tmp_path.iterdir()] == ['x.npz']


def test_npz_06_pickled_arrays_are_refused_and_pickled_metadata_skipped(tmp_path, small, caplog):
    arrays = arrays_of(small)
    np.savez(tmp_path / 'm.npz', **arrays, _metadata=np.array({'a': 1}, dtype=object))
    assert_same_scan(RawData.from_file(tmp_path / 'm.npz'), small)
    assert '_metadata' in caplog.text
    for key in ('probeGuess', 'Y', 'hobby'):
        np.savez(tmp_path / 'p.npz', **{**arrays, key: np.array([None], dtype=object)})
        with pytest.raises(DataValueError, match=f"'{key}' is pickled"):
            RawData.from_file(tmp_path / 'p.npz')


@pytest.mark.filterwarnings('ignore:Duplicate name')
@pytest.mark.parametrize('key', ['diffraction', 'xcoords', 'hobby'])
def test_npz_12_a_key_that_is_there_twice_is_refused(tmp_path, small, key):
    path = tmp_path / 'x.npz'
    np.savez(path, hobby=np.arange(3.0), **arrays_of(small))
    RawData.from_file(path)
    with zipfile.ZipFile(path, 'a') as archive, archive.open(f'{key}.npy', 'w') as stream:
        np.save(stream, 2 * np.load(path)[key])
    with pytest.raises(DataValueError) as refusal:
        RawData.from_file(path)
    assert str(refusal.value) == (
        f"{path} is not a readable NPZ file (it holds '{key}' twice; save it with one array of each name)."
    )


def test_missing_and_broken_files_get_a_sentence(tmp_path, small):
    with pytest.raises(DataFileNotFoundError, match='there is no such file'):
        RawData.from_file(tmp_path / 'none.npz')
    (tmp_path / 'broken.npz').write_bytes(b'PK\x03\x04 and nothing more')
    with pytest.raises(DataValueError, match='not a readable NPZ'):
        RawData.from_file(tmp_path / 'broken.npz')
    arrays = arrays_of(small)
    del arrays['probeGuess']
    np.savez(tmp_path / 'lacks.npz', **arrays)
    with pytest.raises(DataKeyError, match="lacks 'probeGuess'"):
        RawData.from_file(tmp_path / 'lacks.npz')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'ycoords': np.zeros(3)}, 'ycoords has 3 entries'),
        ({'xcoords': np.full(9, np.nan)}, 'xcoords holds NaN'),
        ({'diffraction': -np.ones((9, 32, 32))}, 'negative'),
        ({'diffraction': np.full((9, 32, 32), np.inf)}, 'NaN or infinite'),
        ({'diffraction': np.ones((9, 32, 30))}, 'square'),
        ({'probeGuess': np.ones((16, 16), complex)}, 'probeGuess is 16 pixels'),
        ({'probeGuess': np.ones((32, 30), complex)}, 'expected'),
        ({'probeGuess': np.zeros((32, 32), complex)}, 'zero everywhere'),
        ({'bad_pixels': np.zeros((4, 4), bool)}, 'bad_pixels has shape'),
        (
            {'objectGuess': np.full((40, 40), np.nan)},
            'objectGuess holds NaN or infinite values; correct',
        ),
        ({'Y': np.full((9, 32, 32), complex(0, np.inf))}, 'Y holds NaN or infinite values; correct'),
        ({'xcoords': np.zeros((3, 3))}, r'xcoords has shape \(3, 3\); expected \(n,\)'),
        ({'ycoords': np.zeros(9, complex)}, 'ycoords is of type complex128; expected real numbers'),
        ({'scan_index': np.zeros((9, 9), int)}, r'scan_index has shape \(9, 9\)'),
        ({'scan_index': np.arange(9) / 2}, 'scan_index holds values that are no whole numbers'),
        ({'probeGuess': np.full((32, 32), 'a')}, 'probeGuess is of type <U1; expected numbers'),
        ({'objectGuess': np.full((40, 40), 'a')}, 'objectGuess is of type <U1; expected numbers'),
        ({'bad_pixels': np.full((32, 32), 'a')}, 'bad_pixels is of type <U1; expected real numbers'),
    ],
)
def test_npz_18_contradictions_are_named(small, change, message):
    arrays = {**arrays_of(small), **change}
    with pytest.raises(DataValueError, match=message):
        RawData(**arrays)


@pytest.mark.parametrize(
    'key', ['probeGuess', 'objectGuess', 'xcoords', 'ycoords', 'scan_index', 'bad_pixels']
)
def test_text_is_named_by_every_reader(tmp_path, small, key):
    path = tmp_path / 'text.npz'
    np.savez(path, **{**arrays_of(small), key: np.full(9, 'a')})
    readers = {
        'probeGuess': [read_probe],
        'objectGuess': [simulation_object, read_object],
        'xcoords': [read_positions, read_object],
        'ycoords': [read_positions, read_object],
        'bad_pixels': [read_mask],
    }
    for read in (RawData.from_file, *readers.get(key, [])):
        with pytest.raises(DataValueError, match=r'text\.npz.*(<U1|shape)'):
            read(path)
