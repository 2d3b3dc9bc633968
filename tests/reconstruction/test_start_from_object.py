"""SOLVE-15: a reconstruction begins at an object that is given."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.config import InferenceConfig, ModelConfig
from ptycho_engine.errors import ConfigError, DataValueError
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.formats.product import read_product, write_product
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.physics.geometry import ObjectGrid
from ptycho_engine.reconstruction.evaluate import ObjectFile, object_on_grid
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scanned_box, score
from ptycho_engine.simulate.recipe import Recipe

OFF = InferenceConfig(calibrate='off')


@pytest.fixture(scope='module')
def scan():
    """Patterns that hardly overlap, of which the way from a flat object is long."""
    raw = Recipe(points='6x6', step_px=20, seed=2).simulate()
    return Scan.from_raw(raw)


def run(scan, **more):
    events = list(reconstruct(scan, load_model('none'), OFF, **more))
    return sum(type(event).__name__ == 'IterationDone' for event in events), events[-1].reconstruction


def test_solve_15_a_good_object_shortens_the_way(scan):
    """Up to a factor; and a start that is wrong does not spoil the image."""
    truth, box = scan.raw.objectGuess, scanned_box(scan)
    iterations, flat = run(scan)
    fewer, found = run(scan, begin=3e-3j * truth)
    assert fewer < iterations
    assert score(truth, found.object_array, box).nrmse < score(truth, flat.object_array, box).nrmse
    assert 'begun at an object that was given' in found.comments
    assert 'begun at' not in flat.comments
    _, wrong = run(scan, begin=np.exp(0.3j * np.random.default_rng(0).normal(size=truth.shape)))
    assert score(truth, wrong.object_array, box).nrmse < 2 * score(truth, flat.object_array, box).nrmse


def test_solve_15_what_cannot_be_begun_at_is_refused(scan):
    for wrong in (
        np.ones((5, 5), complex),
        np.zeros(scan.grid.shape, complex),
        np.full(scan.grid.shape, np.nan),
    ):
        with pytest.raises(DataValueError, match=r'object to begin at has shape'):
            run(scan, begin=wrong)
    prior = load_model('none')
    config = replace(prior.config, model=ModelConfig(N=64, architecture='cnn', n_filters_scale=1))
    plan = build_plan(config.model)
    network = replace(prior, config=config, weights=initial_weights(plan, 0))
    with pytest.raises(ConfigError, match='makes the image that is refined'):
        list(reconstruct(scan, network, OFF, begin=scan.raw.objectGuess))


def test_solve_15_an_object_on_other_pixels_is_brought_to_those_of_the_scan():
    """By where both lie in metres; its edge is continued."""
    place = np.arange(40) - 19.5
    slope = (place[:, None] + 2j * place).astype(np.complex64)
    file = ObjectFile('a', slope, grid=ObjectGrid(40, 40, 0, 0, 2e-8, 2e-8, 1e-8, 0.0))
    grid = ObjectGrid(31, 21, 0, 0, 1e-8, 1e-8, 0.0, 4e-8)
    found = object_on_grid(file, grid)
    y = ((np.arange(31) - 15) * 1e-8 + 4e-8) / 2e-8
    x = ((np.arange(21) - 10) * 1e-8 - 1e-8) / 2e-8
    np.testing.assert_allclose(found, y[:, None] + 2j * x, atol=1e-5)
    with pytest.raises(DataValueError, match='nothing says where they lie'):
        object_on_grid(replace(file, grid=None), grid)


def test_solve_15_by_the_command(tmp_path, capsys):
    words = ['--quiet', '--points', '5x5', '--size', '32']
    assert main(['simulate', *words, '--output', str(tmp_path / 'IN')]) == 0
    product = read_product(tmp_path / 'IN' / 'truth.h5')
    # A smaller canvas around the same middle.
    write_product(tmp_path / 'part.h5', replace(product, object_array=product.object_array[:, 4:-4, 4:-4]))
    words = ['reconstruct', str(tmp_path / 'IN'), '--model', 'none', '--quiet', '--start-from-object']
    assert main([*words, str(tmp_path / 'part.h5'), '--output', str(tmp_path / 'r')]) == 0
    assert 'begun at an object' in capsys.readouterr().out
    assert main([*words, str(tmp_path / 'none.h5'), '--output', str(tmp_path / 'x')]) == 2
    assert not (tmp_path / 'x').exists()
