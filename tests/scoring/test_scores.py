import numpy as np
import pytest
from ptychodus.api import metrics  # noqa: F401  the referee must be importable
from scipy.ndimage import fourier_shift
from skimage.metrics import structural_similarity

from ptycho_engine.errors import DataValueError
from ptycho_engine.scoring.scores import align, fourier_ring_correlation, score
from ptycho_engine.simulate import make_object

BOX = (slice(30, 130), slice(40, 120))


@pytest.fixture(scope='module')
def truth():
    return make_object('dead-leaves', (160, 170), np.random.default_rng(0)).astype(complex)


def test_quality_01_shift_factor_and_ramp_are_removed(truth):
    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(truth), (0.5, -1.25)))
    ramp = np.exp(1j * np.linspace(0, 2, truth.shape[1]))
    scores = score(truth, moved * ramp * 2j, BOX)
    assert scores.shift_y_px == pytest.approx(-0.5, abs=0.02)
    assert scores.shift_x_px == pytest.approx(1.25, abs=0.02)
    assert scores.nrmse < 0.03
    assert scores.phase_ssim > 0.98


def test_the_truth_scores_full_marks(truth):
    scores = score(truth, truth, BOX)
    assert scores.nrmse < 1e-6
    assert scores.amplitude_ssim == pytest.approx(1)
    assert scores.phase_ssim == pytest.approx(1)
    assert scores.frc50 == pytest.approx(0.5)


def test_quality_02_ssim_is_that_of_scikit_image_with_the_truths_range(truth):
    noise = np.random.default_rng(1).normal(0, 0.05, truth.shape)
    aligned = align(truth, truth + noise, BOX)
    a, b = np.abs(aligned.truth), np.abs(aligned.result)
    expected = structural_similarity(a, b, data_range=np.ptp(a))
    assert score(truth, truth + noise, BOX).amplitude_ssim == pytest.approx(expected)


def test_a_flat_object_scores_badly(truth):
    scores = score(truth, np.ones_like(truth), BOX)
    assert scores.nrmse > 0.2
    assert scores.frc50 < 0.05


def test_quality_03_frc_falls_where_the_detail_ends(truth):
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(s) for s in truth.shape), indexing='ij'))
    blurred = np.fft.ifft2(np.fft.fft2(truth) * (frequency < 0.2))
    noise = np.random.default_rng(1).normal(0, 0.01, truth.shape)
    f, c = fourier_ring_correlation(truth, blurred + noise)
    assert c[f < 0.15].min() > 0.9
    assert np.abs(c[f > 0.25]).max() < 0.7
    assert 0.15 < score(truth, blurred + noise, BOX).frc50 < 0.27


def test_mistakes_are_named(truth):
    with pytest.raises(DataValueError, match='same grid'):
        align(truth, truth[1:], BOX)
    with pytest.raises(DataValueError, match='too small'):
        align(truth, truth, (slice(0, 5), slice(0, 50)))
