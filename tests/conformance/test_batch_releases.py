"""Batch mode on every supported release: exit codes, files, sentences (API-41 to API-57).

The whole table, with both backends on each release, is what ``batch_table.py`` prints. Here each release runs
with one backend; PyTorch on 1.7.0 is in test_batch.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from batch_table import FAILURES, WITHOUT_TRAINING, Row, batch_table

from ptycho_engine.formats.archive import read_manifest
from ptycho_engine.formats.product import read_product

pytestmark = [pytest.mark.ptychodus, pytest.mark.releases, pytest.mark.usefixtures('ptychodus_plugin')]

PAIRS = (('1.5.1', 'pytorch'), ('1.6.0', 'tensorflow'), ('1.7.0', 'tensorflow'))
SENTENCES = {
    'absent model': 'There is no model at /nowhere/model.zip',
    'nothing to train': 'Physics alone has no network to train; choose the algorithm PINN',
    'damaged model': '{root}/damaged-model/IN/model.zip is not a readable model archive',
    'unknown algorithm': "ask for the algorithm 'PtychoPINN_PIN', which is not installed",
    'wrong setting': "Setting PtychoPINNEngine.Backend is 'abacus'",
    'failed run': 'no known object, which supervised training needs',
    'no product': 'Input product is not a file!',
    'no patterns': 'Diffraction data is not a file!',
}
PTYCHODUS_ANSWERS = {'no product', 'no patterns'}
"""Refused by Ptychodus itself, with codes of its own: 255 until 1.6, then 2."""

Table = dict[str, Row]


@pytest.fixture(scope='module', params=PAIRS, ids=['-'.join(pair) for pair in PAIRS])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope='module')
def table(pair: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Table:
    release, backend = pair
    rows = batch_table(tmp_path_factory.mktemp(f'batch-{release}'), release, (backend,))
    return {row.case.split(',')[0]: row for row in rows}


def test_train_and_reconstruct(pair: tuple[str, str], table: Table) -> None:
    """API-71, API-41 to API-44, API-59, API-11: settings.ini alone decides, the backend too."""
    release, backend = pair
    train, reconstruct = table['train'], table['reconstruct']
    assert train.code == 0, train.log
    assert train.files == ('model.zip', 'wts.h5.zip')
    assert reconstruct.code == 0, reconstruct.log
    numbered = 'product-out.000064.h5' if release == '1.5.1' else 'product.000064.h5'
    assert set(reconstruct.files) == {numbered, 'product.h5'} | (
        {'product-out.h5'} if release == '1.5.1' else set()
    )
    product = read_product(reconstruct.out / 'product.h5')
    assert np.ptp(np.angle(product.object_array)) > 0.1
    assert product.name == 'sim_ptychopinn_pinn'
    assert read_manifest(train.out / 'model.zip').backend == backend


@pytest.mark.parametrize('case', WITHOUT_TRAINING)
def test_reconstruct_without_training(pair: tuple[str, str], table: Table, case: str) -> None:
    """API-71, API-45, API-59, API-88, API-89."""
    row = table[case]
    assert row.code == 0, row.log
    assert 'product.h5' in row.files
    product = read_product(row.out / 'product.h5')
    assert np.ptp(np.angle(product.object_array)) > 0.1
    model = 'none; physics' if case == 'physics' else 'the learned prior that comes with PtychoPINN'
    assert f'Model: {model}' in product.comments
    assert row.log.count('the learned prior that comes with PtychoPINN.') == (case != 'physics')


@pytest.mark.parametrize('case', FAILURES)
def test_a_failure_has_a_code_and_a_sentence_and_leaves_nothing(
    table: Table, pair: tuple[str, str], case: str
) -> None:
    """API-71, API-51, API-52, API-55, API-56, API-57, API-59."""
    row = table[case]
    codes = {'1.7.0': 2}.get(pair[0], 255) if case in PTYCHODUS_ANSWERS else 1
    assert row.code == codes, row.log
    (line,) = row.errors
    assert SENTENCES[case].format(root=row.out.parents[1]) in line
    assert 'Traceback' not in row.log
    assert row.files == ()
