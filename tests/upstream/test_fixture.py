"""FIXTURE clauses: small fixed data sets for tests, and the project's own."""

import hashlib
import json
import logging
import os
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.errors import ConfigError
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.upstream.fixture import make_fixture, pattern_correlations
from tests.fixtures.make_source import source_arrays

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'pytorch_integration' / 'minimal_dataset_v1.npz'


@pytest.fixture(scope='module')
def arrays() -> dict[str, np.ndarray]:
    return source_arrays()


@pytest.fixture(scope='module')
def source(arrays, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('source') / 'run1084_like.npz'
    np.savez(path, **arrays)
    return path


def test_fixture_01_the_first_positions_in_canonical_form(source, arrays, tmp_path):
    assert arrays['diffraction'].shape == (64, 64, 1087)
    assert arrays['diffraction'].dtype == arrays['xcoords'].dtype == np.float64
    assert arrays['objectGuess'].shape == (227, 226)
    record = make_fixture(source, tmp_path / 'a.npz', 40)
    with np.load(tmp_path / 'a.npz', allow_pickle=False) as made:
        assert made.files == [
            *('diffraction', 'probeGuess', 'objectGuess'),
            *('xcoords', 'ycoords', 'xcoords_start', 'ycoords_start', '_metadata'),
        ]
        assert json.loads(str(made['_metadata'])) == {
            'axis_order': 'n,H,W',
            'measurement_domain': 'amplitude',
        }
        assert made['diffraction'].dtype == np.float32
        np.testing.assert_array_equal(
            made['diffraction'], arrays['diffraction'][..., :40].transpose(2, 0, 1).astype(np.float32)
        )
        for name in ('probeGuess', 'objectGuess'):
            assert made[name].dtype == np.complex64
            np.testing.assert_array_equal(made[name], arrays[name].astype(np.complex64))
        for name in ('xcoords', 'ycoords', 'xcoords_start', 'ycoords_start'):
            assert made[name].dtype == np.float64
            np.testing.assert_array_equal(made[name], arrays[name][:40])
    assert record['transformations'] == [
        'the first 40 of 1087 positions',
        'diffraction transposed from (H, W, n) to (n, H, W)',
        'diffraction cast from float64 to float32',
        'probeGuess cast from complex128 to complex64',
        'objectGuess cast from complex128 to complex64',
        '_metadata says what the patterns are and the order of their axes',
    ]


def test_fixture_02_the_description(source, tmp_path, monkeypatch):
    monkeypatch.setenv('SOURCE_DATE_EPOCH', '86400')
    record = make_fixture(source, tmp_path / 'a.npz', 16, tmp_path / 'deep' / 'b.json')
    assert json.loads((tmp_path / 'deep' / 'b.json').read_text()) == record
    assert set(record) == {
        *('version', 'created', 'generator_script', 'generator_commit', 'source_dataset', 'source_sha256'),
        *('subset_strategy', 'subset_size', 'transformations', 'sha256_checksum', 'validation_notes'),
    }
    assert record['created'] == '1970-01-02T00:00:00Z'
    assert record['subset_strategy'] == 'first_n_positions'
    assert record['subset_size'] == 16
    assert record['source_dataset'] == 'run1084_like.npz'
    assert record['source_sha256'] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record['sha256_checksum'] == hashlib.sha256((tmp_path / 'a.npz').read_bytes()).hexdigest()
    checkout = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True, check=False)
    if checkout.returncode == 0:
        assert record['generator_commit'] == checkout.stdout.strip()
    monkeypatch.setenv('SOURCE_DATE_EPOCH', 'yesterday')
    with pytest.raises(ConfigError, match='seconds since 1970'):
        make_fixture(source, tmp_path / 'c.npz', 16)
    assert not (tmp_path / 'c.npz').exists()


@pytest.mark.skipif(not hasattr(time, 'tzset'), reason='time zones of the process')
def test_fixture_03_the_same_bytes_at_any_time_and_place(source, tmp_path, monkeypatch):
    monkeypatch.setenv('SOURCE_DATE_EPOCH', '1763683200')
    made = []
    for number, zone in enumerate(('Pacific/Auckland', 'America/Los_Angeles')):
        monkeypatch.setenv('TZ', zone)
        time.tzset()
        os.utime(source, (number, number))
        make_fixture(source, tmp_path / f'{number}.npz')
        made.append([(tmp_path / f'{number}{end}').read_bytes() for end in ('.npz', '.json')])
    monkeypatch.delenv('TZ')
    time.tzset()
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / '0.npz') as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_fixture_04_pattern_i_belongs_to_position_i(source, arrays, tmp_path, caplog):
    make_fixture(source, tmp_path / 'a.npz', 30)
    raw = RawData.from_file(tmp_path / 'a.npz')
    assert pattern_correlations(raw).min() > 0.99
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    # The mistake this guards against: positions of one order, patterns of another.
    shuffled = {**arrays, 'xcoords': arrays['xcoords'][::-1], 'ycoords': arrays['ycoords'][::-1]}
    np.savez(tmp_path / 'shuffled.npz', **shuffled)
    record = make_fixture(tmp_path / 'shuffled.npz', tmp_path / 'b.npz', 30)
    assert pattern_correlations(RawData.from_file(tmp_path / 'b.npz')).min() < 0.9
    assert 'do not all fit their positions' in caplog.text
    assert 'lowest 0.99' not in record['validation_notes'][1]


def test_fixture_05_counts_legacy_names_and_optional_keys(arrays, tmp_path):
    first = {name: arrays[name][:20] for name in ('xcoords', 'ycoords')}
    counts = np.rint(arrays['diffraction'][..., :20].transpose(2, 0, 1) ** 2).astype(np.uint32)
    mask = np.zeros((64, 64), bool)
    mask[3, 4] = True
    extra = {'scan_index': np.arange(20) // 10, 'bad_pixels': mask, 'hobby': np.array('sailing')}
    probe = arrays['probeGuess'][None]
    np.savez(
        tmp_path / 's.npz',
        diff3d=counts,
        probeGuess=probe,
        objectGuess=arrays['objectGuess'],
        **first,
        **extra,
    )
    record = make_fixture(tmp_path / 's.npz', tmp_path / 'a.npz', 18)
    with np.load(tmp_path / 'a.npz') as made:
        assert made['probeGuess'].shape == (1, 64, 64)
        np.testing.assert_array_equal(made['scan_index'], np.arange(18) // 10)
        np.testing.assert_array_equal(made['bad_pixels'], mask)
        good = ~mask
        np.testing.assert_allclose(made['diffraction'][:, good] ** 2, counts[:18, good], rtol=1e-5)
    done = record['transformations']
    assert 'diff3d renamed diffraction' in done
    assert 'diffraction: square root of counts' in done
    assert 'hobby left out' in done
    assert not any('transposed' in line for line in done)


def test_fixture_02_all_that_was_done_is_told(arrays, tmp_path):
    mask = np.zeros((64, 64), bool)
    mask[3, 4] = True
    amplitude = arrays['diffraction'][..., :20].transpose(2, 0, 1)
    rest = {name: arrays[name] for name in ('probeGuess', 'objectGuess')}
    rest |= {name: arrays[name][:20, None] for name in ('xcoords', 'ycoords')}

    def done(patterns, mask=mask, **metadata):
        text = np.array(json.dumps(metadata))
        np.savez(tmp_path / 's.npz', diffraction=patterns, bad_pixels=mask, _metadata=text, **rest)
        record = make_fixture(tmp_path / 's.npz', tmp_path / 'a.npz', 16)
        uninteresting = ('left out', 'complex64', 'the order of their axes')
        return [line for line in record['transformations'] if not line.endswith(uninteresting)]

    plain = done(np.where(mask, 0, amplitude).astype(np.float32))
    assert plain == [
        'the first 16 of 20 positions',
        'xcoords flattened from (20, 1)',
        'ycoords flattened from (20, 1)',
    ]
    hot, single = amplitude.astype(np.float32), plain[1:]
    hot[2, 3, 4] = np.nan
    assert done(hot)[1:-2] == ['diffraction set to 0 in bad pixels']
    hot[2, 3, 4], hot[17, 3, 4] = 0, 7
    assert done(np.where(mask, 0, hot), measurement_domain='counts')[1:-2] == [
        'diffraction: square root of counts'
    ]
    said = {'measurement_domain': 'normalised', 'nphotons': 1e6}
    assert done(np.where(mask, 0, hot), **said)[1:-2] == [
        'diffraction: normalised amplitudes scaled to the stated photons'
    ]
    each = np.broadcast_to(mask, (20, 64, 64))
    assert done(np.where(mask, 0, hot), each)[1:] == [
        'bad_pixels of all patterns joined in one mask',
        *single,
    ]


def test_fixture_06_no_file_is_written_over_another(source, tmp_path, monkeypatch):
    path = tmp_path / 'run.npz'
    path.write_bytes(source.read_bytes())
    (tmp_path / 'link.npz').symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for output, sidecar in (
        ('run.npz', None),
        (path, None),
        ('link.npz', None),
        ('out.npz', path),
        ('out.npz', 'out.npz'),
        ('out.json', None),
    ):
        with pytest.raises(ConfigError, match='are not three files'):
            make_fixture(path, output, 16, sidecar)
    assert path.read_bytes() == source.read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ['link.npz', 'run.npz']


def test_fixture_06_mistakes(source, arrays, tmp_path, capsys):
    def saved(**changes):
        merged = {**arrays, **changes}
        np.savez(tmp_path / 'bad.npz', **{k: v for k, v in merged.items() if v is not None})
        return tmp_path / 'bad.npz'

    out = tmp_path / 'out.npz'
    for size in (15, 0, -1, 1088):
        with pytest.raises(ValueError, match='expected 16 to 1087'):
            make_fixture(source, out, size)
    with pytest.raises(FileNotFoundError, match='there is no such file'):
        make_fixture(tmp_path / 'none.npz', out)
    for key in ('probeGuess', 'objectGuess', 'xcoords', 'ycoords', 'diffraction'):
        with pytest.raises(KeyError, match=key):
            make_fixture(saved(**{key: None}), out)
    with pytest.raises(ValueError, match='3'):
        make_fixture(saved(diffraction=arrays['diffraction'][..., 0]), out)
    assert not out.exists()
    words = ['make-fixture', '--source', str(source), '--output', str(out)]
    assert main([*words, '--subset-size', '5']) == 2
    assert 'expected 16 to 1087' in capsys.readouterr().err
    assert main([*words, '--subset-size', '16', '--metadata-out', str(tmp_path / 'x.json')]) == 0
    assert json.loads((tmp_path / 'x.json').read_text())['sha256_checksum'] in capsys.readouterr().out


def test_fixture_07_the_projects_own():
    record = json.loads(FIXTURE.with_suffix('.json').read_text())
    assert hashlib.sha256(FIXTURE.read_bytes()).hexdigest() == record['sha256_checksum']
    raw = RawData.from_file(FIXTURE)
    assert raw.diffraction.shape == (64, 64, 64)
    assert raw.objectGuess is not None
    assert raw.objectGuess.shape == (227, 226)
    assert pattern_correlations(raw).min() > 0.99
