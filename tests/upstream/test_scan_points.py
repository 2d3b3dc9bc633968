"""Numbers of scan points in `scan_index`, as the original writes them, change no figure (NPZ-13)."""

import json

import numpy as np
import pytest

from ptycho_engine import (
    InferenceConfig,
    ModelConfig,
    Reconstructed,
    TrainingConfig,
    load_archive,
    load_scan,
    reconstruct,
    train,
)
from ptycho_engine.commands import main
from tests.conftest import small_scan

pytestmark = pytest.mark.usefixtures('slim_cnn')


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """Two files of one scan, with and without the numbers."""
    folder = tmp_path_factory.mktemp('scans')
    raw = small_scan(points=6)
    arrays = {
        'diffraction': raw.diffraction,
        'probeGuess': raw.probeGuess[0],
        'objectGuess': raw.objectGuess,
        'xcoords': raw.xcoords,
        'ycoords': raw.ycoords,
    }
    (folder / 'without').mkdir()
    (folder / 'with').mkdir()
    np.savez(folder / 'without' / 'scan.npz', **arrays)
    np.savez(folder / 'with' / 'scan.npz', **arrays, scan_index=np.arange(len(raw), dtype=np.int32))
    return folder / 'without' / 'scan.npz', folder / 'with' / 'scan.npz'


def figures(history):
    """Return what epochs say of the training, without their times."""
    return [{k: v for k, v in record.items() if 'second' not in k and 'time' not in k} for record in history]


@pytest.mark.parametrize('gridsize', [1, 2])
def test_scan_points_train_and_reconstruct_to_the_same_figures(pair, gridsize, tmp_path):
    results = []
    for number, path in enumerate(pair):
        scan = load_scan(path)
        config = TrainingConfig(
            model=ModelConfig(gridsize=gridsize, n_filters_scale=1, architecture='cnn'),
            nepochs=2,
            n_groups=24,
            batch_size=4,
            validation_fraction=0.2,
            use_groups_cache=False,
        )
        folder = tmp_path / str(number)
        list(train([scan], config, folder))
        archive = load_archive(folder)
        inference = InferenceConfig(use_groups_cache=False, refine_iterations=3)
        (last,) = [e for e in reconstruct(scan, archive, inference) if isinstance(e, Reconstructed)]
        results.append((archive, last.reconstruction))
    (archive, image), (other, again) = results
    assert figures(archive.history) == figures(other.history)
    assert len(archive.history) == 2
    for name, weights in archive.weights.items():
        np.testing.assert_array_equal(weights, other.weights[name], err_msg=name)
    np.testing.assert_array_equal(image.object_array, again.object_array)
    assert image.deviance == again.deviance
    assert image.n_patterns == again.n_patterns == 36


def test_scan_points_are_the_same_to_the_doctor(pair, capsys):
    said = []
    for path in pair:
        code = main(['doctor', str(path), '--data-only', '--json', '--quiet'])
        said.append((code, json.loads(capsys.readouterr().out)))
    (code, found), (other, again) = said
    assert code == other

    def plain(report):
        # The content names the array.
        return [{**finding, 'file': None} for finding in report['findings'] if finding['topic'] != 'content']

    assert plain(found) == plain(again)
    assert len(plain(found)) > 3
