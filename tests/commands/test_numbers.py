"""Numbers at the edge of what can be computed: a result or one sentence, and `doctor` says which before.

Clauses GAU-05, DIR-05, DIR-06 and DOUBT-01, over files of 16 patterns of 32×32 pixels.
"""

import json
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import main, result_files
from ptycho_engine.diagnostics.diagnosis import _Search
from ptycho_engine.reconstruction.picture import save_figure
from tests.conftest import small_scan

FAILURE, MISTAKE = 1, 2
RAW = small_scan(points=4, size=32, photons=1e4, step=4.0)
N = len(RAW)
A, PROBE, X, Y = RAW.diffraction, RAW.probeGuess[0], RAW.xcoords, RAW.ycoords
COUNTS = np.rint(A.astype(np.float64) ** 2).astype(np.int64)
ROW, COLUMN = np.indices((32, 32))
TRAIN = ['--epochs', '1', '--groups', '4', '--batch-size', '4', '--filters-scale', '1']
TRAIN += ['--architecture', 'cnn']
RECONSTRUCT = ['--refine-iterations', '2']


def some(values: np.ndarray, where: Any, value: float) -> np.ndarray:
    changed = values.copy()
    changed[where] = value
    return changed


def dim(photons: float) -> np.ndarray:
    rate = COUNTS * (photons / COUNTS.sum(axis=(1, 2)).mean())
    return np.random.default_rng(0).poisson(rate).astype(np.uint16)


def first(n: int) -> dict[str, np.ndarray]:
    return {'diffraction': A[:n], 'xcoords': X[:n], 'ycoords': Y[:n]}


def up_to(dtype: type) -> np.ndarray:
    """Return the counts as integers whose largest is about that of the type."""
    largest = np.iinfo(dtype).max
    return (COUNTS.astype(np.float64) / COUNTS.max() * 0.999 * largest).astype(dtype)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a scan, and what is to be said of it."""

    changes: dict[str, np.ndarray] = field(default_factory=dict)
    stop: str = ''
    """Words of the sentence that ends everything."""
    doubt: str = ''
    """Words of the caution and of the warning of a run; '' for a run that says nothing."""
    caution: str = ''
    """Words of a caution that `doctor` alone gives."""


RELATIVE = 'more than any detector counts'
SINGLE, DARK, FAR = 'beyond single precision', 'no counts in their valid pixels', 'beyond 1e+09 object pixels'
FEW, PLACE, SCARCE = 'patterns only', 'within half a pixel of one place', 'so little light'
NOT_FINITE = 'NaN or infinite'

FAULTS = {
    'nothing': Fault(),
    # Dose and unit
    '0.1 photons': Fault({'diffraction': dim(0.1)}, doubt=SCARCE),
    '10 photons': Fault({'diffraction': dim(10.0)}, doubt=SCARCE),
    'normalised to 0.08 counts': Fault({'diffraction': A * np.float32(0.0028)}),
    'patterns normalised to 1': Fault({'diffraction': A / np.float32(100)}),
    'amplitudes × 1e-20': Fault({'diffraction': A * np.float32(1e-20)}),
    'denormal amplitudes': Fault({'diffraction': A * np.float32(1e-43)}, stop=SINGLE),
    'denormal amplitudes and probe': Fault(
        {'diffraction': A * np.float32(1e-37), 'probeGuess': PROBE * np.complex64(1e-37)},
        caution='no counts, nor roots of counts',
    ),
    '2^53 counts': Fault({'diffraction': COUNTS * (2**53 // COUNTS.max())}, doubt=RELATIVE),
    **{
        f'{dtype.__name__} to its largest': Fault({'diffraction': up_to(dtype)})
        for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)
    },
    'int64 to its largest': Fault({'diffraction': up_to(np.int64)}, doubt=RELATIVE),
    'uint64 to its largest': Fault({'diffraction': up_to(np.uint64)}, doubt=RELATIVE),
    'uint64 largest everywhere': Fault(
        # These are marks of bad pixels.
        {'diffraction': np.full(A.shape, np.iinfo(np.uint64).max)},
        stop=DARK,
    ),
    'amplitudes × 1e10': Fault({'diffraction': A * np.float32(1e10)}),
    'amplitudes × 1e25': Fault({'diffraction': A * np.float32(1e25)}),
    '1e25 everywhere': Fault({'diffraction': np.full_like(A, 1e25)}, doubt='one number in all its pixels'),
    '3e38 everywhere': Fault({'diffraction': np.full_like(A, 3e38)}, stop=SINGLE),
    '3e38 everywhere, probe alike': Fault(
        {'diffraction': np.full_like(A, 3e38), 'probeGuess': PROBE * np.complex64(1e30)},
        doubt='one number in all its pixels',
    ),
    # A single hit, which is replaced.
    '3e38 in one pixel': Fault({'diffraction': some(A, (3, 16, 16), 3e38)}),
    '1e300': Fault({'diffraction': A * np.float64(1e300)}, stop=NOT_FINITE),
    'probe × 1e30': Fault({'probeGuess': PROBE * np.complex64(1e30)}),
    'probe × 1e-30': Fault({'probeGuess': PROBE * np.complex64(1e-30)}),
    'counts × 1e20, probe × 1e30': Fault(
        {'diffraction': A * np.float32(1e10), 'probeGuess': PROBE * np.complex64(1e30)}
    ),
    'counts × 1e-40, probe × 1e-30': Fault(
        {'diffraction': A * np.float32(1e-20), 'probeGuess': PROBE * np.complex64(1e-30)}
    ),
    'denormal probe': Fault({'probeGuess': PROBE * np.complex64(1e-42)}, stop=SINGLE),
    'probe × 1e-200': Fault({'probeGuess': PROBE * np.complex128(1e-200)}, stop='zero everywhere'),
    'probe × 1e200': Fault({'probeGuess': PROBE * np.complex128(1e200)}, stop=NOT_FINITE),
    # Patterns
    'zero': Fault({'diffraction': A * 0}, stop=DARK),
    'one number': Fault({'diffraction': np.full_like(A, 2.5)}, doubt='one number in all its pixels'),
    'all alike': Fault({'diffraction': np.repeat(A[:1], N, axis=0)}, doubt='are the same'),
    'one dark': Fault({'diffraction': some(A, 3, 0)}, caution='1 of 16 patterns looked at are empty'),
    'every other one dark': Fault({'diffraction': some(A, slice(0, N, 2), 0)}, doubt='only 8 of the 16'),
    'one bright pixel': Fault(
        {'diffraction': some(A * 0, (..., 16, 16), 50.5)}, doubt='in one pixel of each'
    ),
    'negative': Fault({'diffraction': -A}, stop='negative'),
    # These are marks of bad pixels.
    'NaN in one pixel': Fault({'diffraction': some(A, (3, 16, 16), np.nan)}),
    'NaN everywhere': Fault({'diffraction': A * np.nan}, stop=NOT_FINITE),
    'infinite float16': Fault({'diffraction': some(A, (3, 16, 16), np.inf).astype(np.float16)}),
    'bad everywhere': Fault({'bad_pixels': np.ones((32, 32), bool)}, stop=DARK),
    'bad but for a dark pixel': Fault({'bad_pixels': (ROW > 0) | (COLUMN > 0)}, stop='turn it round'),
    'every other row bad': Fault({'bad_pixels': ROW % 2 == 1}),
    'bad but for two pixels': Fault(
        {'bad_pixels': (ROW != 15) | (COLUMN < 16) | (COLUMN > 17)}, stop='turn it round'
    ),
    # Probe
    'no probe mode': Fault({'probeGuess': np.zeros((0, 32, 32), np.complex64)}, stop='probeGuess has shape'),
    'probe zero': Fault({'probeGuess': PROBE * 0}, stop='zero everywhere'),
    'probe zero in one mode': Fault({'probeGuess': np.stack([PROBE, PROBE * 0])}),
    'probe NaN': Fault({'probeGuess': some(PROBE, (3, 3), np.nan)}, stop=NOT_FINITE),
    'probe of one pixel': Fault(
        {'probeGuess': np.where((ROW == 15) & (COLUMN == 15), PROBE, 0)}, caution='there is no overlap'
    ),
    # Positions
    'one pattern': Fault(first(1), doubt='one pattern only'),
    'two patterns': Fault(first(2), doubt=FEW),
    'three patterns': Fault(first(3), doubt=FEW),
    'on a line': Fault({'ycoords': np.full(N, 40.5)}),
    'on a diagonal': Fault({'ycoords': X}),
    'all at one place': Fault({'xcoords': np.full(N, 40.3), 'ycoords': np.full(N, 40.5)}, doubt=PLACE),
    'metres': Fault({'xcoords': X * 1e-9, 'ycoords': Y * 1e-9}, doubt=PLACE),
    'in pairs': Fault(
        {'xcoords': np.repeat(X[::2], 2), 'ycoords': np.repeat(Y[::2], 2)}, caution='where another one is'
    ),
    '1e7 apart': Fault({'xcoords': X * 1e7}, stop='the positions span'),
    '1e12 apart': Fault({'xcoords': X * 1e12}, stop=FAR),
    '1e300 apart': Fault({'xcoords': X * 1e300}, stop=FAR),
    'far from zero': Fault({'xcoords': X + 9e8}),
    'too far from zero': Fault({'xcoords': X + 1e17}, stop=FAR),
    'off the object': Fault(
        {'xcoords': X + 1e5, 'objectGuess': RAW.objectGuess}, stop='no pattern touches the object'
    ),
    'one far off the object': Fault(
        {'xcoords': some(X, 3, 1e5), 'objectGuess': RAW.objectGuess}, stop='pixels off'
    ),
    'most beside the object': Fault(
        {'xcoords': X + 40, 'objectGuess': RAW.objectGuess}, doubt='positions lie off the object'
    ),
    'NaN position': Fault({'xcoords': some(X, 2, np.nan)}, stop=NOT_FINITE),
    'infinite position': Fault({'ycoords': some(Y, 2, np.inf)}, stop=NOT_FINITE),
    # Object
    'object zero': Fault({'objectGuess': RAW.objectGuess * 0}),
    'object × 1e30': Fault({'objectGuess': RAW.objectGuess * np.complex64(1e30)}),
    'object NaN': Fault({'objectGuess': RAW.objectGuess * np.nan}, stop=NOT_FINITE),
}


@pytest.fixture(autouse=True)
def images_only(monkeypatch) -> None:
    """Draw the images of a result without its axes, whose labels take longer than all else that is tried."""

    def save(figure: Any, path: Path) -> None:
        figure.set_layout_engine('none')
        for axes in figure.axes:
            axes.set_axis_off()
        save_figure(figure, path)

    monkeypatch.setattr(result_files, 'save_figure', save)


@pytest.fixture(scope='module')
def network(tmp_path_factory) -> Path:
    """A model of one short epoch on the sound scan."""
    folder = tmp_path_factory.mktemp('network')
    scan = written(folder / 'scan.npz', {})
    assert run(['train', scan, '--output', folder, *TRAIN, '--quiet']) == 0
    return folder


def written(path: Path, changes: dict[str, np.ndarray]) -> Path:
    np.savez(path, **{'diffraction': A, 'probeGuess': PROBE, 'xcoords': X, 'ycoords': Y, **changes})
    return path


def run(words: list[Any]) -> int:
    """Run a command in which no computation may be out of range."""
    with warnings.catch_warnings():
        warnings.simplefilter('error', RuntimeWarning)
        return main([str(word) for word in words])


def check(
    fault: Fault, scan: Path, network: Path, tmp_path: Path, capsys: Any, backend: str = 'pytorch'
) -> None:
    """Ask `doctor`, train and reconstruct, and compare what they say."""
    capsys.readouterr()
    code = run(['doctor', '--data-only', '--quiet', scan])
    said = ' '.join(''.join(capsys.readouterr()).split())
    # A scan that is spoilt may be called so, or not where it is too small to tell.
    assert code == (FAILURE if fault.stop or 'WRONG' in said else 0), said
    for words in (fault.stop, fault.doubt, fault.caution):
        assert words in said
    options = [
        ['train', '--output', tmp_path / 'm', *TRAIN, '--backend', backend],
        ['reconstruct', '--output', tmp_path / 'r', '--model', network, *RECONSTRUCT, '--backend', backend],
    ]
    for command, *rest in options:
        code = run([command, scan, *rest, '--quiet'])
        lines = capsys.readouterr().err.splitlines()
        if fault.stop:
            assert code == MISTAKE, lines
            assert fault.stop in lines[-1]
            assert scan.name in lines[-1]
        else:
            assert code == 0, lines
            assert sum(fault.doubt in line for line in lines) == 1 if fault.doubt else not doubts(lines), (
                lines
            )
    if fault.stop:
        assert not (tmp_path / 'm').exists()
        assert not (tmp_path / 'r').exists()
        return
    with np.load(tmp_path / 'r' / 'reconstruction.npz') as file:
        assert np.isfinite(file['objectGuess']).all()
        assert file['objectGuess'].any()
        quality = json.loads(str(file['_metadata']))['quality']
    assert quality['deviance'] is not None
    assert quality['coverage'] > 0 or 'off the object' in fault.doubt


def doubts(lines: list[str]) -> list[str]:
    # That the image of a scan that is spoilt is far from noise is another matter.
    return [line for line in lines if 'scan.npz: ' in line and 'photon noise' not in line]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Look for no cause of a scan that is not near noise, which takes its time."""
    monkeypatch.setattr(_Search, '_steps', lambda self, ratio, limit: ())


@pytest.mark.parametrize('name', FAULTS)
def test_a_result_or_a_sentence(name, network, tmp_path, capsys):
    """GAU-05, DIR-05, DIR-06, DOUBT-01: doctor, train and reconstruct agree about every scan."""
    fault = FAULTS[name]
    check(fault, written(tmp_path / 'scan.npz', fault.changes), network, tmp_path, capsys)


def in_directory(source: Path, folder: Path, patterns: Any = None, product: Any = None) -> Path:
    """Copy a Ptychodus directory with some of its arrays changed by functions of them."""
    shutil.copytree(source, folder)
    for path, changes in (('diffraction.h5', patterns), ('product.h5', product)):
        for name, change in (changes or {}).items():
            with h5py.File(folder / path, 'r+') as file:
                old = file[name]
                attributes, values = dict(old.attrs), change(old[()])
                del file[name]
                file.create_dataset(name, data=values).attrs.update(attributes)
    return folder


@pytest.fixture(scope='module')
def pair(tmp_path_factory) -> Path:
    """A sound Ptychodus directory."""
    folder = tmp_path_factory.mktemp('pair')
    words = ['--size', '32', '--points', '16', '--step-px', '4', '--photons', '1e4']
    assert run(['simulate', *words, '--output', folder, '--quiet']) == 0
    return folder


@dataclass(frozen=True)
class PairFault(Fault):
    """What is wrong with a Ptychodus directory: functions of its arrays."""

    patterns: dict[str, Any] = field(default_factory=dict)
    product: dict[str, Any] = field(default_factory=dict)


def times(factor: float, dtype: type) -> Any:
    return lambda values: (values * np.float64(factor)).astype(dtype)


X_M, Y_M = 'probe_position_x_m', 'probe_position_y_m'
ZEROS = {X_M: np.zeros_like, Y_M: np.zeros_like}
PAIR_FAULTS = {
    'nothing': PairFault(),
    'counts to 3e38': PairFault(patterns={'patterns': lambda c: (c / c.max() * 3e38).astype(np.float32)}),
    'counts × 1e25': PairFault(patterns={'patterns': times(1e25, np.float32)}),
    'counts × 1e-20': PairFault(patterns={'patterns': times(1e-20, np.float64)}),
    'counts zero': PairFault(patterns={'patterns': np.zeros_like}, stop=DARK),
    'probe × 1e30': PairFault(product={'probe': times(1e30, np.complex128)}),
    'probe × 1e-30': PairFault(product={'probe': times(1e-30, np.complex64)}),
    'probe zero': PairFault(product={'probe': np.zeros_like}, stop='zero everywhere'),
    'all at one place': PairFault(product=ZEROS, doubt=PLACE),
    'positions × 1e9': PairFault(product={X_M: times(1e9, np.float64)}, stop=FAR),
    'positions × 1e300': PairFault(product={X_M: times(1e300, np.float64)}, stop=FAR),
    'positions NaN': PairFault(product={X_M: times(np.nan, np.float64)}, stop=NOT_FINITE),
    'object NaN': PairFault(product={'object': times(np.nan, np.complex64)}, doubt='the object holds NaN'),
    'object zero': PairFault(product={'object': np.zeros_like}),
}


@pytest.mark.parametrize('name', PAIR_FAULTS)
def test_a_result_or_a_sentence_for_a_ptychodus_directory(name, pair, network, tmp_path, capsys):
    """The same of diffraction.h5 and product.h5."""
    fault = PAIR_FAULTS[name]
    scan = in_directory(pair, tmp_path / 'scan.npz', fault.patterns, fault.product)
    check(fault, scan, network, tmp_path, capsys)


@pytest.mark.parametrize(
    'name',
    ['0.1 photons', 'amplitudes × 1e25', 'probe × 1e30', 'probe × 1e-30', 'one pattern', 'all at one place'],
)
def test_tensorflow_says_the_same(name, network, tmp_path, capsys):
    pytest.importorskip('tensorflow')
    fault = FAULTS[name]
    check(fault, written(tmp_path / 'scan.npz', fault.changes), network, tmp_path, capsys, 'tensorflow')


@pytest.mark.parametrize(('size', 'fits'), [(40, True), (36, False), (24, False)])
def test_a_size_that_the_cnn_does_not_take(size, fits, tmp_path, capsys):
    """DOUBT-01: doctor names only what ends every run."""
    small_scan(points=3, size=size).to_file(tmp_path / 'scan.npz')
    assert run(['doctor', '--data-only', '--quiet', tmp_path / 'scan.npz']) == 0
    words = ['train', tmp_path / 'scan.npz', '--output', tmp_path / 'm', *TRAIN, '--quiet']
    assert run(words) == (0 if fits else MISTAKE)
    assert ('expected a' in ' '.join(capsys.readouterr().err.split())) is not fits
    if size == 24:
        assert run([*words, '--architecture', 'prior', '--filters-scale', '2']) == 0
