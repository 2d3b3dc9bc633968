"""A probe that training corrects: learned, kept with the model, applied and written."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.errors import DataValueError
from ptycho_engine.events import EpochDone
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.product_data import ProductData
from ptycho_engine.network.plan import PROBE_CORRECTION
from ptycho_engine.physics.probe import condition_probe, correct_probe, mode_intensity
from ptycho_engine.reconstruction.fit import judge_fit
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.simulate import without_truth
from ptycho_engine.training.train import train
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

pytestmark = pytest.mark.usefixtures('slim_cnn')

CONFIG = TrainingConfig(
    model=ModelConfig(n_filters_scale=1, architecture='cnn'),
    nepochs=6,
    n_groups=32,
    learning_rate=2e-3,
)


@pytest.fixture(scope='module')
def misjudged() -> tuple[Scan, np.ndarray]:
    """A scan whose given probe has an astigmatism that the true one has not, and the true probe."""
    raw = without_truth(small_scan(points=5, size=32))
    axis = np.linspace(-1, 1, 32)
    wrong = raw.probeGuess * np.exp(1.5j * (axis[:, None] ** 2 - axis**2)).astype(np.complex64)
    return Scan.from_raw(replace(raw, probeGuess=wrong)), raw.probeGuess


def likeness(a, b):
    return abs(np.vdot(a, b)) / np.sqrt(np.vdot(a, a).real * np.vdot(b, b).real)


def test_net_09_the_probe_is_learned_kept_applied_and_written(misjudged, tmp_path):
    scan, true_probe = misjudged
    losses = {}
    for trainable in (False, True):
        events = list(train([scan], replace(CONFIG, probe_trainable=trainable), tmp_path / str(trainable)))
        losses[trainable] = [e.training_loss for e in events if isinstance(e, EpochDone)][-1]
    assert losses[True] < losses[False]

    archive = load_archive(tmp_path / 'True')
    assert archive.weights[PROBE_CORRECTION].shape == (1, 32, 32, 2)
    *_, done = reconstruct(scan, archive)
    assert isinstance(done, Reconstructed)
    learned = done.reconstruction.probe
    under_learned = ScanModel(Scan.from_raw(replace(scan.raw, probeGuess=learned)))
    fit = judge_fit(under_learned, done.reconstruction.object_array)
    assert fit[:2] == pytest.approx((1, done.reconstruction.deviance), rel=1e-4)
    assert likeness(learned, true_probe) > likeness(scan.raw.probeGuess, true_probe)

    product = ProductData(
        name='p',
        comments='',
        detector_distance_m=1.0,
        photon_energy_eV=1e4,
        object_array=np.ones((1, 40, 40), np.complex64),
        object_pixel_width_m=1e-8,
        object_pixel_height_m=1e-8,
        probe=scan.raw.probeGuess[np.newaxis].astype(np.complex128),
        position_x_m=np.zeros(1),
        position_y_m=np.zeros(1),
        position_indexes=np.zeros(1, np.int64),
    )
    written = done.reconstruction.to_product(product).probe
    assert written.dtype == np.complex128
    np.testing.assert_array_equal(written[0], learned)

    # At a hundred times the dose, the correction is the same part of the probe.
    louder = replace(scan.raw, diffraction=10 * scan.raw.diffraction[:], probeGuess=10 * scan.raw.probeGuess)
    again = ScanModel(Scan.from_raw(louder), probe_correction=archive.weights[PROBE_CORRECTION])
    np.testing.assert_allclose(again.probe, 10 * learned, rtol=1e-4, atol=1e-4 * np.abs(learned).max())


def test_a_correction_for_another_probe_is_refused(misjudged):
    scan, _ = misjudged
    with pytest.raises(DataValueError, match=r'correction for a probe of shape \(3, 32, 32\)'):
        correct_probe(scan.raw.probeGuess, np.zeros((3, 32, 32, 2), np.float32))


def test_scans_of_different_probes_cannot_share_a_correction(tmp_path):
    scans = [Scan.from_raw(without_truth(small_scan(points=4, size=32, modes=m))) for m in (1, 2)]
    with pytest.raises(DataValueError, match=r'probes of \[1, 2\] modes'):
        next(train(scans, replace(CONFIG, probe_trainable=True), tmp_path))


def test_net_08_the_mask_is_a_disk_with_a_soft_edge():
    probe = np.ones((1, 32, 32), np.complex64)
    masked = condition_probe(probe, ModelConfig(probe_mask=True, probe_mask_diameter=20.0))[0]
    np.testing.assert_allclose(masked, masked[::-1, ::-1])
    assert abs(masked[15, 15] - 1) < 1e-6
    assert abs(masked[0, 0]) < 1e-6
    # At the edge itself, half; columns 5 and 6 lie 10.5 and 9.5 pixels from the middle.
    assert abs(masked[15, 5] + masked[15, 6]) == pytest.approx(1, abs=0.02)
    hard = condition_probe(probe, ModelConfig(probe_mask=True, probe_mask_sigma=0.0))[0]
    assert set(np.unique(hard.real)) == {0.0, 1.0}
    assert hard.real.sum() == pytest.approx(np.pi * 8**2, rel=0.05)


def test_net_08_smoothing_keeps_the_light_and_widens_the_probe():
    probe = np.zeros((2, 32, 32), np.complex64)
    probe[:, 16, 16] = [1, 1j]
    smooth = condition_probe(probe, ModelConfig(gaussian_smoothing_sigma=1.5))
    np.testing.assert_allclose(smooth.sum(axis=(1, 2)), [1, 1j], atol=1e-3)
    assert mode_intensity(smooth)[16, 16] < 0.02
