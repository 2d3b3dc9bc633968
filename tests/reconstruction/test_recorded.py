"""An archive and the packaged prior give the images that were recorded, on each backend (ARC-04, RESULT-07).

What users keep are archives: whoever changes features, plan, scaling or stitching makes another image of the
same file, and is to know it. ``python -m tests.fixtures.record_images`` records anew.
"""

import numpy as np
import pytest

from ptycho_engine.config.training import BACKENDS
from ptycho_engine.scan.scan import load_scan
from tests.fixtures.record_images import ARCHIVE, IMAGES, OPTIONS, SCAN, image_of, prior_digest

TOLERANCE = {'cnn': 2e-5, 'cnn refined': 2e-5, 'prior': 1e-3, 'physics': 1e-3}
"""Root mean square of the difference, relative to that of the image. The order of sums in single precision
makes 1e-7 to 2e-6 on one machine; a solver may end an iteration earlier or later, which moves it by 4e-4.
"""


@pytest.fixture(scope='module')
def recorded():
    with np.load(IMAGES, allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', OPTIONS)
def test_the_image_is_the_recorded_one(recorded, name, backend):
    if name == 'prior':
        assert str(recorded['prior_digest']) == prior_digest(), (
            'The packaged prior is another one than that of the recording; look at its images, then run '
            'python -m tests.fixtures.record_images.'
        )
    expected = recorded[name]
    found = image_of(load_scan(SCAN), name, backend)
    assert found.shape == expected.shape
    scale = np.sqrt(np.mean(np.abs(expected) ** 2))
    difference = np.sqrt(np.mean(np.abs(found - expected) ** 2)) / scale
    assert difference < TOLERANCE[name]


def test_the_recordings_differ_and_are_small(recorded):
    """Each pair by far more than what is tolerated."""
    images = [recorded[name] for name in OPTIONS]
    for number, image in enumerate(images):
        for other in images[:number]:
            assert np.sqrt(np.mean(np.abs(image - other) ** 2)) > 0.01 * np.sqrt(np.mean(np.abs(image) ** 2))
    assert ARCHIVE.stat().st_size <= 100_000
    assert IMAGES.stat().st_size + SCAN.stat().st_size < 200_000
