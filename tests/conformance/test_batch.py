"""Batch mode through the unmodified console script: files, exit codes, sentences (API-4x, API-5x)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import PATIENCE_S, Finished, Trained
from processes import LONG, children, long_run, seconds_until_gone
from scan_maker import simulated_scan, write_patterns, write_scan, write_settings

from ptycho_engine.formats.archive import load_archive, save_archive
from ptycho_engine.formats.provenance import patterns_sha256, provenance_in_product
from ptycho_engine.scan.scan import load_scan
from tests.formats.hostile_archives import again, hdf5, spoilt_weights, unzip, virtual
from tests.formats.test_archive import in_format_1, tiny_model

pytestmark = pytest.mark.ptychodus
Run = Callable[..., Finished]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def failure(run: Finished) -> str:
    """Return the one line that says what went wrong; there is no traceback and no printed array beside it."""
    assert run.code == 1, run.log
    assert 'Traceback' not in run.log
    assert 'array(' not in run.log
    lines = run.lines('[ERROR]')
    assert len(lines) == 1, run.log
    return lines[0]


def test_training_leaves_the_model_under_both_names(trained: Trained) -> None:
    """API-41, API-42."""
    assert trained.run.code == 0, trained.run.log
    assert names(trained.out) == ['model.zip', 'wts.h5.zip']
    assert (trained.out / 'model.zip').read_bytes() == (trained.out / 'wts.h5.zip').read_bytes()


def test_each_epoch_is_one_line(trained: Trained) -> None:
    """API-31."""
    lines = trained.run.lines('ptychopinn.train', 'Epoch', '/2', 'training deviance', 'validation deviance')
    assert len(lines) == 2


def test_reconstruction_keeps_the_product_and_gives_an_object(
    scan_copy: Path, trained: Trained, ptychodus: Run
) -> None:
    """API-43, API-44, API-26; API-23: with the uncertainty; API-91: and how it came about."""
    from ptychodus.api.io import load_product

    from ptycho_engine.formats.product import read_product

    shutil.copy(trained.out / 'model.zip', scan_copy)
    out = scan_copy.parent / 'OUT'
    run = ptychodus('-b', 'reconstruct', '-i', scan_copy, '-o', out)
    assert run.code == 0, run.log
    assert names(out) == ['product.000064.h5', 'product.h5']

    before = load_product(scan_copy / 'product.h5')
    after = load_product(out / 'product.h5')
    numbered = load_product(out / 'product.000064.h5')
    assert after.object_.get_geometry() == before.object_.get_geometry()
    assert np.iscomplexobj(after.object_.get_array())
    assert not np.allclose(after.object_.get_array(), before.object_.get_array())
    np.testing.assert_array_equal(after.object_.get_array(), numbered.object_.get_array())
    np.testing.assert_array_equal(after.probes.get_array(), before.probes.get_array())
    for read in ('get_indexes', 'get_coordinates_x_m', 'get_coordinates_y_m'):
        np.testing.assert_array_equal(
            getattr(after.probe_positions, read)(), getattr(before.probe_positions, read)()
        )
    assert len(after.losses) == 2
    assert all(loss.value > 0 for loss in after.losses)
    for field in ('detector_distance_m', 'photon_energy_eV', 'probe_photon_count', 'exposure_time_s'):
        assert getattr(after.metadata, field) == getattr(before.metadata, field)
    for field in ('mass_attenuation_m2_per_kg', 'tomography_angle_deg', 'tilt_angle_deg', 'far_field'):
        assert getattr(after.metadata, field) == getattr(before.metadata, field)
    assert after.metadata.comments.startswith(before.metadata.comments)
    assert '64 patterns' in after.metadata.comments
    assert read_product(out / 'product.h5').name == 'sim_ptychopinn_pinn'
    with h5py.File(out / 'product.h5') as file:
        uncertainty = file['ptychopinn_object_uncertainty'][()]
    assert uncertainty.shape == after.object_.get_array().shape[1:]
    assert np.nanmedian(uncertainty) > 0
    record = provenance_in_product(out / 'product.h5')
    assert record is not None
    model = hashlib.sha256((scan_copy / 'model.zip').read_bytes()).hexdigest()
    patterns = patterns_sha256(load_scan(scan_copy).raw.diffraction)
    assert record['command'] == f'ptychodus -b reconstruct -i {scan_copy} -o {out}'
    assert record['settings']['InferenceConfig']['backend'] == 'pytorch'
    assert (record['model']['sha256'], record['patterns']['sha256']) == (model, patterns)
    gist = f'model sha256 {model[:12]}, patterns sha256 {patterns[:12]}'
    assert gist in after.metadata.comments


WITHOUT_EFFECT = {'PtychoPINNEngine': {'RefineMethod': 'rpie', 'RefineIterations': '3'}}
"""Settings of the refinement of a network's image."""


class Cases:
    """Runs in directories of their own, all in one process."""

    def __init__(self, root: Path, scan: Path, model: Path) -> None:
        self._root, self._scan, self._model = root, scan, model
        self._cases: list[tuple[str, list[str]]] = []
        self.finished: dict[str, Finished] = {}

    def add(self, name: str, action: str, *, model: bool = True, within: str = '') -> Path:
        """Add a case, with its output or `within` that, and return its input directory, to spoil."""
        folder = self._root / name / 'IN'
        shutil.copytree(self._scan, folder)
        if model:
            shutil.copy(self._model, folder / 'model.zip')
        self._cases.append((name, ['-b', action, '-i', str(folder), '-o', str(self.out(name) / within)]))
        return folder

    def out(self, name: str) -> Path:
        return self._root / name / 'OUT'

    def run(self, environment: dict[str, str]) -> None:
        report = self._root / 'report.json'
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parent / 'main_driver.py'), str(report)],
            input=json.dumps(self._cases),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        self.finished = {name: Finished(*value) for name, value in json.loads(report.read_text()).items()}


def overflowing(path: Path) -> None:
    """Multiply the weights of a model so that its numbers overflow on their way to the object."""
    model = load_archive(path)
    weights = {name: value * np.float32(1e30) for name, value in model.weights.items()}
    save_archive(path, replace(model, weights=weights))


@pytest.fixture(scope='module')
def cases(
    tmp_path_factory: pytest.TempPathFactory, scan: Path, trained: Trained, environment: dict[str, str]
) -> Cases:
    cases = Cases(tmp_path_factory.mktemp('cases'), scan, trained.out / 'model.zip')

    folder = cases.add('training-name', 'reconstruct')
    (folder / 'model.zip').rename(folder / 'wts.h5.zip')
    # Those of another network: what counts is the model's own.
    write_settings(folder, {'PtychoPINNModel': {'GridSize': '2', 'NumFiltersScale': '3'}})

    folder = cases.add('of-the-settings', 'reconstruct', model=False)
    write_settings(folder, {'PtychoPINNInference': {'ModelPath': str(trained.out / 'model.zip')}})

    write_scan(cases.add('long-steps', 'reconstruct'), simulated_scan(grid=4, step=24, modes=2))

    cases.add('no-model', 'reconstruct', model=False)
    folder = cases.add('no-model-any-size', 'reconstruct', model=False)
    write_scan(folder, simulated_scan(size=50, grid=4))
    folder = cases.add('physics', 'reconstruct', model=False)
    # It takes no model, not even this one.
    (folder / 'model.zip').write_bytes(b'PK')
    write_settings(folder, {'Processing': {'Algorithm': 'PtychoPINN_Physics'}, **WITHOUT_EFFECT})
    write_settings(cases.add('physics-train', 'train'), {'Processing': {'Algorithm': 'PtychoPINN_Physics'}})

    folder = cases.add('absent-model', 'reconstruct', model=False)
    write_settings(folder, {'PtychoPINNInference': {'ModelPath': '/nowhere/model.zip'}})
    (cases.add('model-folder', 'reconstruct', model=False) / 'model.zip').mkdir()
    (cases.add('dangling', 'reconstruct', model=False) / 'model.zip').symlink_to('/nowhere/model.zip')

    for action in ('train', 'reconstruct'):
        cases.add(f'blocked-{action}', action, within='file/OUT')
        cases.out(f'blocked-{action}').mkdir()
        (cases.out(f'blocked-{action}') / 'file').touch()

    folder = cases.add('corrupt', 'reconstruct')
    whole = (folder / 'model.zip').read_bytes()
    (folder / 'model.zip').write_bytes(whole[: len(whole) // 2])
    cases.out('corrupt').mkdir()
    (cases.out('corrupt') / 'product.h5').write_bytes(b'earlier')

    overflowing(cases.add('overflow', 'reconstruct') / 'model.zip')
    hostile = cases.add('nan-weights', 'reconstruct') / 'model.zip'
    hostile.write_bytes(spoilt_weights(float('nan'))(unzip(hostile.read_bytes())))
    hostile = cases.add('virtual', 'reconstruct') / 'model.zip'
    hostile.write_bytes(hdf5(again(virtual))(unzip(in_format_1(folder, tiny_model()))))

    write_scan(cases.add('other-size', 'reconstruct'), simulated_scan(size=32, grid=3))

    for action in ('train', 'reconstruct'):
        write_patterns(cases.add(f'not-square-{action}', action), np.ones((64, 64, 48), np.int32))

        with h5py.File(cases.add(f'near-field-{action}', action) / 'product.h5', 'r+') as file:
            file.attrs['far_field'] = False

    for name, changes in {
        'unknown': {'Processing': {'Algorithm': 'PtychoPINN_PIN'}},
        'setting': {'PtychoPINNEngine': {'Accelerator': 'abacus'}},
        'supervised': {'Processing': {'Algorithm': 'PtychoPINN_Supervised'}},
    }.items():
        write_settings(cases.add(name, 'train'), changes)

    cases.run(environment)
    return cases


@pytest.mark.parametrize(
    ('case', 'words'),
    [
        # It is refused before anything is started.
        pytest.param(
            'absent-model', ['/nowhere/model.zip'], id='API-51, API-15 absent model of the settings'
        ),
        pytest.param('model-folder', ['IN/model.zip'], id='API-51 a folder for a model'),
        pytest.param('dangling', ['IN/model.zip'], id='API-51 a link to nothing'),
        pytest.param('physics-train', ['no network to train', 'PINN'], id='API-89 nothing to train'),
        pytest.param('corrupt', ['IN/model.zip'], id='API-52 corrupt model'),
        pytest.param('overflow', ['NaN or infinite numbers in the object'], id='RESULT-05 overflow'),
        pytest.param('nan-weights', ['IN/model.zip', 'NaN or infinite numbers'], id='ARC-09 NaN weights'),
        pytest.param('virtual', ['IN/model.zip', 'a virtual dataset'], id='ARC-08 virtual dataset'),
        pytest.param('other-size', ['64×64', '32×32'], id='API-53 model of another size'),
        pytest.param('not-square-train', ['square'], id='API-54 patterns not square, train'),
        pytest.param('not-square-reconstruct', ['square'], id='API-54 patterns not square, reconstruct'),
        pytest.param('near-field-train', ['near field'], id='DIR-08 near field, train'),
        pytest.param('near-field-reconstruct', ['near field'], id='DIR-08 near field, reconstruct'),
        pytest.param('unknown', ["'PtychoPINN_PIN'", 'ptychopinn_pinn'], id='API-55 unknown algorithm'),
        pytest.param('setting', ['PtychoPINNEngine.Accelerator', 'abacus'], id='API-56 bad setting'),
        pytest.param('supervised', ['no known object'], id='API-02 supervised without an object'),
    ],
)
def test_refusal_is_one_sentence(cases: Cases, case: str, words: list[str]) -> None:
    sentence = failure(cases.finished[case])
    for word in words:
        assert word in sentence
    assert names(cases.out(case)) == (['product.h5'] if case == 'corrupt' else [])


@pytest.mark.parametrize('case', ['no-model', 'no-model-any-size'])
def test_without_a_model_the_prior_is_used(cases: Cases, case: str) -> None:
    """API-45, API-88, API-26: one line of the log and one of the comments say so."""
    from ptychodus.api.io import load_product

    run = cases.finished[case]
    assert run.code == 0, run.log
    assert len(run.lines('[INFO] ptychopinn:', 'the learned prior that comes with PtychoPINN')) == 1
    assert not run.lines('[ERROR]')
    product = load_product(cases.out(case) / 'product.h5')
    assert np.ptp(np.angle(product.object_.get_array())) > 0.1
    assert 'Model: the learned prior that comes with PtychoPINN' in product.metadata.comments
    assert len(product.losses) == 0


def test_physics_alone_takes_no_model(cases: Cases) -> None:
    """API-13, API-89."""
    from ptychodus.api.io import load_product

    run = cases.finished['physics']
    assert run.code == 0, run.log
    assert (
        len(run.lines('only count for a model of the architecture cnn: RefineIterations, RefineMethod.')) == 1
    )
    product = load_product(cases.out('physics') / 'product.h5')
    assert np.ptp(np.angle(product.object_.get_array())) > 0.1
    assert product.metadata.name == 'sim_ptychopinn_physics'
    assert 'PtychoPINN by physics alone' in product.metadata.comments
    assert 'Model: none; physics with total variation alone' in product.metadata.comments


def test_model_is_found_under_its_training_name_and_says_what_network_it_is(cases: Cases) -> None:
    """API-45, API-52."""
    assert cases.finished['training-name'].code == 0, cases.finished['training-name'].log
    assert 'product.h5' in names(cases.out('training-name'))


def test_model_of_the_settings_is_used(cases: Cases, trained: Trained) -> None:
    """API-12 (ModelPath), API-45."""
    run = cases.finished['of-the-settings']
    assert run.code == 0, run.log
    assert run.lines('holds no model; using', str(trained.out / 'model.zip'))
    assert 'product.h5' in names(cases.out('of-the-settings'))


def test_long_steps_and_several_modes_leave_no_gaps(cases: Cases) -> None:
    """API-23, API-25."""
    from ptychodus.api.io import load_product

    from ptycho_engine.formats.product import read_product

    assert cases.finished['long-steps'].code == 0, cases.finished['long-steps'].log
    product = read_product(cases.out('long-steps') / 'product.h5')
    assert product.probe.shape[:2] == (1, 2)
    x, y = product.positions_px()
    scanned = product.object_array[0, int(y.min()) : int(y.max()), int(x.min()) : int(x.max())]
    assert min(scanned.shape) > 3 * 20
    assert np.count_nonzero(scanned == 1) < 0.01 * scanned.size, 'the flat start is nowhere left'
    # What Ptychodus itself has written is the same.
    numbered = load_product(cases.out('long-steps') / 'product.000016.h5')
    np.testing.assert_array_equal(numbered.object_.get_array(), product.object_array)


@pytest.mark.parametrize('action', ['train', 'reconstruct'])
def test_out_01_a_folder_that_cannot_be_written_is_one_sentence(cases: Cases, action: str) -> None:
    case = f'blocked-{action}'
    blocked = cases.out(case) / 'file'
    assert f'OUT cannot be an output directory: {blocked} is a file' in failure(cases.finished[case])


def test_failed_run_leaves_the_old_product(cases: Cases) -> None:
    """API-57."""
    assert (cases.out('corrupt') / 'product.h5').read_bytes() == b'earlier'


linux = pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='looks at processes in /proc')


@linux
def test_no_orphan_and_no_loss_when_the_parent_is_killed(
    scan_copy: Path, ptychodus_plugin: Path, environment: dict[str, str]
) -> None:
    """API-34."""
    out = scan_copy.parent / 'OUT'
    write_settings(scan_copy, LONG['train'])
    with long_run('train', scan_copy, out, environment) as process:
        (child,) = children(process.pid)
        process.kill()
        assert seconds_until_gone(child, 10) is not None
    assert names(out) == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']


@linux
def test_no_orphan_when_the_parent_of_a_reconstruction_is_killed(
    scan_copy: Path, trained: Trained, environment: dict[str, str]
) -> None:
    """API-34."""
    out = scan_copy.parent / 'OUT'
    shutil.copy(trained.out / 'model.zip', scan_copy)
    write_settings(scan_copy, LONG['reconstruct'])
    with long_run('reconstruct', scan_copy, out, environment) as process:
        (child,) = children(process.pid)
        process.kill()
        assert seconds_until_gone(child, 10) is not None
    assert names(out) == []


@linux
def test_a_killed_child_is_a_failure(
    scan_copy: Path, ptychodus_plugin: Path, environment: dict[str, str]
) -> None:
    """API-35."""
    out = scan_copy.parent / 'OUT'
    write_settings(scan_copy, LONG['train'])
    with long_run('train', scan_copy, out, environment) as process:
        (child,) = children(process.pid)
        os.kill(child, signal.SIGKILL)
        rest = process.stdout.read() if process.stdout else ''
        assert process.wait(20) == 1
    assert 'ended without a result (by signal 9)' in rest
    assert set(names(out)) <= {'checkpoint.zip'}


@linux
def test_interrupt_keeps_the_best_model(
    scan_copy: Path, ptychodus_plugin: Path, environment: dict[str, str]
) -> None:
    """API-33."""
    out = scan_copy.parent / 'OUT'
    write_settings(scan_copy, LONG['train'])
    with long_run('train', scan_copy, out, environment) as process:
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        if process.stdout:
            process.stdout.read()
        process.wait(20)
        # On a machine that is busy with other things; bench_adapter.py measures it.
        assert time.monotonic() - start < 15
    assert names(out) == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']


@linux
def test_a_signal_to_the_child_saves_the_model_and_is_a_failure(
    scan_copy: Path, ptychodus_plugin: Path, environment: dict[str, str]
) -> None:
    """API-38."""
    out = scan_copy.parent / 'OUT'
    write_settings(scan_copy, LONG['train'])
    with long_run('train', scan_copy, out, environment) as process:
        (child,) = children(process.pid)
        os.kill(child, signal.SIGTERM)
        rest = process.stdout.read() if process.stdout else ''
        assert process.wait(60) == 1
    assert 'The training was ended by the signal SIGTERM in epoch' in rest
    assert 'Traceback' not in rest
    assert names(out) == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']


@linux
def test_a_closed_connection_saves_the_model(
    scan_copy: Path, ptychodus_plugin: Path, environment: dict[str, str]
) -> None:
    """API-38: SIGHUP goes to the parent and the child."""
    out = scan_copy.parent / 'OUT'
    write_settings(scan_copy, LONG['train'])
    with long_run('train', scan_copy, out, environment) as process:
        (child,) = children(process.pid)
        for pid in (process.pid, child):
            os.kill(pid, signal.SIGHUP)
        assert seconds_until_gone(child, 60) is not None
    assert names(out) == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']
