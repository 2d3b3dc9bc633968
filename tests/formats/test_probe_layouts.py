"""NPZ-26: a probe is taken in any layout that means one thing, and else refused with what to do."""

import logging

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.errors import DataKeyError, DataValueError
from ptycho_engine.formats.npz import write_arrays
from ptycho_engine.physics.probe import as_mode_stack
from ptycho_engine.scan.raw_data import RawData
from tests.conftest import small_scan

N = 32


@pytest.fixture(scope='module')
def raw():
    return small_scan(4, N)


def waves(count):
    rng = np.random.default_rng(3)
    return (rng.normal(size=(count, N, N)) + 1j * rng.normal(size=(count, N, N))).astype(np.complex64)


def parts(probe, axis):
    return np.stack([probe.real, probe.imag], axis)


MODES = waves(3)
LAST = 'its last axis is taken for the modes'
LAYOUTS = {
    'a plane': (MODES[0], MODES[:1], ''),
    'modes': (MODES, MODES, ''),
    'one coherent mode': (MODES[None], MODES, ''),
    'one mode last': (MODES[0, ..., None], MODES[:1], LAST),
    'modes last': (np.moveaxis(MODES, 0, -1), MODES, LAST),
    'modes last of one coherent mode': (np.moveaxis(MODES, 0, -1)[None], MODES, LAST),
    'two modes last': (np.moveaxis(MODES[:2], 0, -1), MODES[:2], LAST),
    'two modes': (MODES[:2], MODES[:2], ''),
    'five axes': (MODES[None, None], MODES, 'its axes of length 1 are left out'),
    'parts first': (parts(MODES[0], 0), MODES[:1], 'its first axis is taken for real and imaginary part'),
    'parts last': (parts(MODES[0], -1), MODES[:1], 'its last axis is taken for real and imaginary part'),
    'parts of float64': (parts(MODES[0].astype(complex), 0), MODES[:1], 'real and imaginary part'),
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_npz_26_a_layout_that_means_one_thing_is_taken_and_told(name, raw, tmp_path, caplog):
    probe, expected, told = LAYOUTS[name]
    path = tmp_path / 'scan.npz'
    own = {key: getattr(raw, key) for key in ('diffraction', 'xcoords', 'ycoords')}
    write_arrays(path, own | {'probeGuess': probe})
    with caplog.at_level(logging.INFO):
        found = RawData.from_file(path).probeGuess
    assert np.array_equal(found, expected)
    lines = [message for message in caplog.messages if 'probeGuess' in message]
    assert len(lines) == bool(told)
    if told:
        assert f'{path}: probeGuess has shape {probe.shape}' in lines[0]
        assert told in lines[0]


AMPLITUDES = np.abs(MODES)
REFUSED = {
    'amplitude and phase': (
        np.stack([AMPLITUDES[0], np.angle(MODES[0])]),
        'Its first axis may be real and imaginary part, amplitude and phase, or two modes: save it as',
    ),
    'two amplitudes last': (np.moveaxis(AMPLITUDES[:2], 0, -1), 'Its last axis may be real and imaginary'),
    'flat': (MODES[0].ravel(), r'Save it as probe.reshape\(32, 32\), or let it be made from the patterns'),
    'coherent modes': (MODES[:, None], r'one of coherent modes: give the first \(probe\[0\]\), or let it be'),
    'oblong': (MODES[0, :7], r'Cut or pad it to square modes, or let it be made .*\(--probe estimate\)'),
    'modes in the middle': (np.moveaxis(MODES, 0, 1), 'Cut or pad it to square modes, or let it'),
    'empty': (MODES[:0], 'Cut or pad it to square modes'),
    'not finite': (np.where(MODES.real > 3, np.nan, MODES), 'correct the probe first, or let it be made'),
    'dark': (0 * MODES, 'give a probe with some light, or let it be made from the patterns'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_npz_26_any_other_is_refused_with_a_remedy(name):
    probe, remedy = REFUSED[name]
    with pytest.raises(DataValueError, match=remedy) as refusal:
        as_mode_stack(probe, 'scan.npz: probeGuess')
    assert 'scan.npz: probeGuess ' in str(refusal.value)


@pytest.mark.parametrize(('size', 'remedy'), [(24, 'numpy.pad(probe, (4, 4))'), (41, 'probe[5:37, 5:37]')])
def test_npz_26_a_probe_of_another_size_is_refused_with_a_remedy(size, remedy, raw):
    own = {key: getattr(raw, key) for key in ('diffraction', 'xcoords', 'ycoords')}
    with pytest.raises(DataValueError) as refusal:
        RawData(**own, probeGuess=np.ones((size, size), complex))
    assert f'probeGuess is {size} pixels wide but the patterns are 32' in str(refusal.value)
    assert remedy in str(refusal.value)
    assert '--probe estimate' in str(refusal.value)


@pytest.mark.parametrize('probe', [None, np.full((N, N), np.nan), np.ones(5), np.ones((N + 2, N + 2))])
def test_npz_26_the_remedy_works_whatever_the_file_holds(probe, raw, tmp_path):
    path = tmp_path / 'scan.npz'
    own = {key: getattr(raw, key) for key in ('diffraction', 'xcoords', 'ycoords')}
    write_arrays(path, own if probe is None else own | {'probeGuess': probe})
    with pytest.raises((DataValueError, DataKeyError), match='--probe estimate'):
        RawData.from_file(path)
    output = tmp_path / 'out.npz'
    assert main(['prepare', str(path), '--output', str(output), '--probe', 'estimate']) == 0
    made = RawData.from_file(output).probeGuess
    assert made.shape == (1, N, N)
    assert np.ptp(np.abs(made)) > 0
