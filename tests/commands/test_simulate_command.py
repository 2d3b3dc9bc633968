"""SIM clauses: what `ptychopinn simulate` can make, and what it refuses."""

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.formats.product import read_product
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import load_scan
from ptycho_engine.upstream.fixture import pattern_correlations
from tests.conftest import small_scan

SMALL = ('--size', '32', '--points', '5x6', '--step-px', '4', '--quiet')


def simulate(out, *options) -> RawData:
    """Run the command and return the scan with its truth."""
    assert main(['simulate', '--output', str(out), *map(str, options)]) == 0
    truth = read_product(out / 'truth.h5')
    raw = RawData.from_file(out / 'scan.npz')
    x, y = truth.positions_px()
    np.testing.assert_allclose(np.stack([raw.xcoords, raw.ycoords]), [x, y], atol=1e-6)
    return RawData(
        diffraction=raw.diffraction[:],
        probeGuess=raw.probeGuess,
        xcoords=raw.xcoords,
        ycoords=raw.ycoords,
        objectGuess=truth.object_array[0],
        bad_pixels=raw.bad_pixels,
    )


@pytest.mark.parametrize(
    'options',
    [
        (),
        ('--object', 'siemens', '--scan', 'spiral', '--absorption', '0.8', '--phase', '0.1'),
        ('--object', 'lines', '--scan', 'random', '--probe', 'zone-plate', '--modes', '3'),
        ('--object', 'smooth', '--probe', 'zone-plate', '--defocus-m=-5e-4', '--central-stop', '0'),
        ('--probe-width-px', '6', '--defocus-rad', '3', '--jitter', '0', '--modes', '2', '--mode-decay', '1'),
    ],
)
def test_sim_01_patterns_are_those_of_object_probe_and_positions(options, tmp_path, capsys):
    raw = simulate(tmp_path, *SMALL, '--photons', '1e7', *options)
    assert raw.diffraction.shape == (30, 32, 32)
    assert pattern_correlations(raw).min() > 0.99
    assert (raw.diffraction**2).sum(axis=(1, 2)).mean() == pytest.approx(1e7, rel=0.01)
    assert '30 patterns of 32×32' in capsys.readouterr().out
    assert len(load_scan(tmp_path).raw) == 30


def test_sim_02_equal_options_give_equal_scans_and_each_part_has_its_own_seed(tmp_path):
    a = simulate(tmp_path / 'a', *SMALL)
    b = simulate(tmp_path / 'b', *SMALL)
    np.testing.assert_array_equal(a.diffraction, b.diffraction)
    other = simulate(tmp_path / 'c', *SMALL, '--seed', '1')
    assert (other.objectGuess.shape != a.objectGuess.shape) or (other.objectGuess != a.objectGuess).any()
    probe = simulate(tmp_path / 'd', *SMALL, '--probe', 'zone-plate')
    np.testing.assert_array_equal(probe.objectGuess, a.objectGuess)
    np.testing.assert_array_equal(probe.xcoords, a.xcoords)


def test_sim_03_background_and_bad_pixels(tmp_path):
    options = ('--background', '2', '--bad-pixels', '0.05', '--photons', '1e4')
    raw = simulate(tmp_path / 'a', *SMALL, *options)
    assert raw.bad_pixels.sum() == round(0.05 * 32 * 32)
    counts = load_scan(tmp_path / 'a').raw
    good = ~raw.bad_pixels
    mean = (raw.diffraction[:, good] ** 2).sum(axis=1).mean()
    assert mean == pytest.approx(1e4 * 0.95 + 2 * good.sum(), rel=0.1)
    np.testing.assert_array_equal(counts.bad_pixels, raw.bad_pixels)
    mask = np.zeros((32, 32))
    mask[4, 5] = 1
    np.save(tmp_path / 'mask.npy', mask)
    masked = simulate(tmp_path / 'b', *SMALL, '--bad-pixels', tmp_path / 'mask.npy')
    np.testing.assert_array_equal(masked.bad_pixels, mask != 0)


def test_sim_04_parts_from_files(tmp_path):
    given = small_scan(points=4, size=32)
    npz = tmp_path / 'run.npz'
    given.to_file(npz)
    whole = simulate(tmp_path / 'a', '--from', npz, '--photons', '1e6')
    np.testing.assert_array_equal(whole.objectGuess, given.objectGuess)
    np.testing.assert_array_equal(whole.xcoords, given.xcoords)
    np.testing.assert_allclose(
        np.abs(whole.probeGuess / np.linalg.norm(whole.probeGuess)),
        np.abs(given.probeGuess / np.linalg.norm(given.probeGuess)),
        atol=1e-6,
    )
    np.save(tmp_path / 'probe.npy', given.probeGuess)
    part = simulate(tmp_path / 'b', '--from', npz, '--probe', tmp_path / 'probe.npy', '--photons', '1e6')
    np.testing.assert_array_equal(part.diffraction, whole.diffraction)
    again = simulate(tmp_path / 'c', '--from', tmp_path / 'a' / 'truth.h5', '--photons', '1e6')
    np.testing.assert_array_equal(again.objectGuess, whole.objectGuess)
    np.testing.assert_allclose(again.ycoords, whole.ycoords, atol=1e-6)
    metres = np.stack([given.xcoords - given.xcoords.mean(), given.ycoords - given.ycoords.mean()], axis=1)
    np.savetxt(tmp_path / 'positions.csv', metres * 1e-8, delimiter=',')
    text = simulate(
        tmp_path / 'd',
        *('--scan', tmp_path / 'positions.csv', '--positions-in-metres', '--pixel-size-m', '1e-8'),
        *('--object', npz, '--size', '32'),
    )
    np.testing.assert_allclose(np.diff(text.xcoords), np.diff(given.xcoords), atol=1e-6)
    middle = (given.objectGuess.shape[1] - 1) / 2
    assert text.xcoords.mean() == pytest.approx(middle, abs=1e-6)
    grown = simulate(tmp_path / 'e', '--scan', npz, '--object', 'lines', '--size', '32')
    np.testing.assert_allclose(np.diff(grown.xcoords), np.diff(given.xcoords), atol=1e-9)


def test_sim_05_mistakes_are_one_sentence(tmp_path, capsys):
    (tmp_path / 'three.csv').write_text('1,2,3\n')
    (tmp_path / 'words.txt').write_text('a b\n')
    np.save(tmp_path / 'cube.npy', np.ones((3, 3, 3)))
    np.savez(tmp_path / 'empty.npz', other=1)
    for options, words in (
        (('--object', 'cats'), 'neither a file nor one of dead-leaves'),
        (('--probe', 'cats'), 'neither a file nor one of defocused'),
        (('--scan', 'cats'), 'neither a file nor one of raster'),
        (('--object', tmp_path / 'none.npy'), 'there is no such file'),
        (('--object', tmp_path / 'cube.npy'), 'expected (H, W)'),
        (('--object', tmp_path / 'empty.npz'), "lacks 'objectGuess'"),
        (('--scan', tmp_path / 'three.csv'), 'two columns'),
        (('--scan', tmp_path / 'words.txt'), 'two columns'),
        (('--points', 'many'), 'rows x columns'),
        (('--points', '0'), 'at least 1×1'),
        (('--step-px', '0'), 'positive'),
        (('--jitter', '-1'), '0 or more'),
        (('--size', '4'), 'at least 8'),
        (('--modes', '0'), 'at least 1'),
        (('--modes', '2', '--mode-decay', '0'), 'above 0'),
        (('--mode-decay', '0.5'), 'without --modes'),
        (('--background', '-1'), '0 or more'),
        (('--bad-pixels', '1'), 'below 1'),
        (('--photons', '0'), 'positive mean count'),
        (('--photons', 'inf'), 'positive mean count'),
        (('--photons', '1e25'), 'more than 9e+18 counts'),
        (('--pixel-size-m', '0'), 'positive number'),
        (('--detector-distance-m', '0'), 'positive number'),
        (('--scan', 'spiral', '--jitter', '0.1'), 'no effect with --scan spiral'),
        (('--zone-width-m', '1e-7'), 'no effect with --probe defocused'),
        (('--positions-in-metres',), 'without a file'),
        (('--probe', 'zone-plate', '--zone-width-m', '1e-9'), 'finer than pixels'),
        (('--probe', 'zone-plate', '--defocus-m', '1'), 'less defocus'),
    ):
        code = main(['simulate', '--output', str(tmp_path / 'out'), '--quiet', *map(str, options)])
        error = capsys.readouterr().err.strip()
        assert code == 2, options
        assert words in error, (options, error)
        assert len(error.splitlines()) == 1, options
    assert not (tmp_path / 'out').exists()


def test_sim_09_the_truth_stays_where_it_is_asked_for(tmp_path):
    raw = simulate(tmp_path / 'a', *SMALL, '--with-truth')
    for path in (tmp_path / 'a', tmp_path / 'a' / 'scan.npz'):
        np.testing.assert_array_equal(load_scan(path).raw.objectGuess, raw.objectGuess)
    simulate(tmp_path / 'b', *SMALL)
    for path in (tmp_path / 'b', tmp_path / 'b' / 'scan.npz'):
        assert (load_scan(path).raw.objectGuess == 1).all()
