"""Bare frames to a scan (FRAMES-*), and the command that makes scans fit (PRE-08)."""

import re
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.errors import DataValueError
from ptycho_engine.physics.forward import predict_intensity
from ptycho_engine.physics.probe_estimate import estimate_probe, pupil_curvature
from ptycho_engine.scan.frames import scan_from_frames
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.simulate import defocused_probe
from tests.conftest import small_scan

GOLD = Path(__file__).parents[3] / 'shared' / 'data' / 'aps26id_gold_20frames.npz'
SPEC = Path(__file__).parents[2] / 'specs' / 'data_contracts.md'


def frames_of(raw: RawData) -> np.ndarray:
    return np.rint(np.square(raw.diffraction, dtype=np.float64)).astype(np.int32)


def test_frames_01_frames_and_stage_positions_make_a_scan():
    raw = small_scan(4, 32)
    pixel_m = 2e-8
    scan = scan_from_frames(
        frames_of(raw),
        raw.xcoords * pixel_m + 1e-3,
        raw.ycoords * pixel_m - 2e-3,
        pixel_size_m=pixel_m,
        photon_energy_eV=8800,
        detector_distance_m=2.2,
        probe=raw.probeGuess,
        name='run 5',
    )
    assert isinstance(scan, Scan)
    np.testing.assert_allclose(
        scan.raw.xcoords - scan.raw.xcoords[0], raw.xcoords - raw.xcoords[0], atol=1e-6
    )
    np.testing.assert_allclose(
        scan.raw.ycoords - scan.raw.ycoords[0], raw.ycoords - raw.ycoords[0], atol=1e-6
    )
    x, y = scan.product.positions_px()
    np.testing.assert_allclose((x, y), (scan.raw.xcoords, scan.raw.ycoords), atol=1e-6)
    np.testing.assert_allclose(scan.raw.diffraction, raw.diffraction, rtol=1e-6)
    corner = np.floor(scan.raw.xcoords - 15.5 + 0.5)
    assert corner.min() == 0
    assert corner.max() + 32 == scan.grid.width
    with pytest.raises(DataValueError, match=r'there are 3 x and 3 y positions'):
        scan_from_frames(
            frames_of(raw), [1, 2, 3], [1, 2, 3], pixel_size_m=1, photon_energy_eV=1, detector_distance_m=1
        )


@pytest.mark.parametrize('curvature', [0.0, -12.0])
def test_frames_02_an_estimated_probe_predicts_the_mean_pattern(curvature):
    rng = np.random.default_rng(0)
    true = defocused_probe(64, rng, width_px=12) * 1e3
    mean = predict_intensity(np.ones((1, 64, 64), complex), true, np.zeros((1, 2)))[0]
    probe = estimate_probe(mean, curvature)
    predicted = predict_intensity(np.ones((1, 64, 64), complex), probe, np.zeros((1, 2)))[0]
    np.testing.assert_allclose(predicted, mean, rtol=1e-3, atol=1e-4 * mean.max())
    light = (np.abs(probe[0]) ** 2) / (np.abs(probe) ** 2).sum()
    middle = [(light * axis).sum() for axis in np.indices((64, 64))]
    np.testing.assert_allclose(middle, 31.5, atol=1.5)
    with pytest.raises(DataValueError, match='cannot be estimated'):
        estimate_probe(np.zeros((8, 8)))


def test_frames_02_the_curvature_is_that_of_fresnel_propagation():
    """A pupil propagated by z over the probe's grid has the phase pi lambda z q² at each frequency."""
    wavelength, pixel, size, z = 1.4e-10, 2e-8, 64, 3e-4
    q = (np.arange(size) - size // 2) / (size * pixel)
    expected = np.pi * wavelength * z * q**2
    place = (np.arange(size) - size // 2) / (size / 2)
    np.testing.assert_allclose(pupil_curvature(z, wavelength, pixel) * place**2, expected, rtol=1e-12)


def test_frames_02_bad_pixels_do_not_tear_holes_into_the_probe():
    raw = small_scan(4, 32)
    bad = np.zeros((32, 32), bool)
    bad[15:18, 14:17] = True
    geometry = {'pixel_size_m': 1e-8, 'photon_energy_eV': 8800, 'detector_distance_m': 2}
    whole, masked = (
        scan_from_frames(
            np.where(mask, 10**6, frames_of(raw)) if mask.any() else frames_of(raw),
            raw.xcoords * 1e-8,
            raw.ycoords * 1e-8,
            bad_pixels=mask,
            **geometry,
        ).raw.probeGuess
        for mask in (np.zeros_like(bad), bad)
    )
    assert np.abs(masked - whole).max() < 0.2 * np.abs(whole).max()


@pytest.fixture
def directory(tmp_path):
    raw = small_scan(4, 64)
    raw.to_file(tmp_path / 'run.npz')
    words = ['simulate', '--from', str(tmp_path / 'run.npz'), '--output', str(tmp_path / 'IN'), '--quiet']
    assert main(words) == 0
    return tmp_path


def test_pre_08_prepare_writes_directories_and_npz(directory, capsys):
    words = ['prepare', str(directory / 'IN'), '--crop', '32', '--quiet', '--output']
    assert main([*words, str(directory / 'out')]) == 0
    assert main([*words, str(directory / 'out.npz'), '--centre', 'auto']) == 0
    assert 'before: 64×64' in capsys.readouterr().out
    before, after = load_scan(directory / 'IN'), load_scan(directory / 'out')
    assert after.raw.N == load_scan(directory / 'out.npz').raw.N == 32
    assert after.product.object_pixel_width_m == pytest.approx(2 * before.product.object_pixel_width_m)
    np.testing.assert_allclose(
        after.raw.diffraction, before.raw.diffraction[:, 16:48, 16:48], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(after.product.position_x_m, before.product.position_x_m)


def test_pre_08_prepare_says_what_the_file_does_not(directory):
    counts = frames_of(RawData.from_file(directory / 'run.npz')).astype(np.float32)
    with np.load(directory / 'run.npz') as file:
        rest = {name: file[name] for name in file.files if name not in ('diffraction', '_metadata')}
    np.savez(directory / 'c.npz', diffraction=counts, **rest)
    words = ['prepare', str(directory / 'c.npz'), '--output', str(directory / 'd.npz'), '--quiet']
    assert main([*words, '--domain', 'counts']) == 0
    read = RawData.from_file(directory / 'd.npz')
    np.testing.assert_allclose(np.square(read.diffraction), counts, rtol=1e-5)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--crop', '100'], 'does not lie inside'),
        (['--bin', '7'], 'cannot be binned'),
        (['--crop', '32', '--centre', 'here'], "expected 'auto' or ROW,COLUMN"),
        (['--domain', 'counts'], 'not an NPZ file'),
    ],
)
def test_pre_08_mistakes_are_one_sentence(directory, capsys, words, message):
    output = directory / 'out'
    assert main(['prepare', str(directory / 'IN'), '--output', str(output), '--quiet', *words]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()
    assert main(['prepare', str(directory / 'run.npz'), '--output', str(output), '--crop', '32']) == 2
    assert 'no physical scale' in capsys.readouterr().err


@pytest.mark.ptychodus
@pytest.mark.skipif(not GOLD.is_file(), reason='the measured frames are not on this machine')
def test_frames_03_measured_frames_become_a_product_that_ptychodus_opens(tmp_path, monkeypatch):
    """The example of the specification, with less training."""
    from ptychodus.api.io import load_product

    (code,) = (
        block
        for block in re.findall(r'```python\n(.*?)```', SPEC.read_text(), re.DOTALL)
        if GOLD.name in block
    )
    short = {"'aps26id": f"'{GOLD.parent}/aps26id", 'nepochs=16': 'nepochs=1', 'n_groups=40': 'n_groups=4'}
    for old, new in short.items():
        assert old in code
        code = code.replace(old, new)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, SPEC.name, 'exec'), {})
    product = load_product(tmp_path / 'gold' / 'product.h5')
    assert product.probes.get_array().shape[-2:] == (128, 128)
    assert len(product.probe_positions) == 20
    geometry = product.object_.get_geometry()
    assert geometry.pixel_width_m == pytest.approx(16e-9)
    obj = product.object_.get_layer(0)
    assert np.isfinite(obj).all()
    for position in product.probe_positions:
        place = geometry.map_coordinates_probe_to_object(position)
        assert 63 < place.x_px < geometry.width_px - 64
        assert 63 < place.y_px < geometry.height_px - 64
