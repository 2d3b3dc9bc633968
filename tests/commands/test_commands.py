"""The command `ptychopinn`, run as a user would: in a process of its own where exit codes matter."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import COMMANDS, build_parser, main
from ptycho_engine.commands import train as train_command
from ptycho_engine.config import TrainingConfig
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.product import read_product
from tests.conftest import small_scan


def test_simulate_writes_npz_and_a_ptychodus_directory(directory, source):
    names = {p.name for p in directory.iterdir()}
    assert names == {
        'scan.npz',
        'diffraction.h5',
        'product.h5',
        'truth.h5',
        'settings.ini',
    }
    product, truth = (
        read_product(directory / 'product.h5'),
        read_product(directory / 'truth.h5'),
    )
    assert np.ptp(np.abs(product.object_array)) == 0
    with np.load(source) as arrays:
        np.testing.assert_array_equal(truth.object_array[0], arrays['objectGuess'])
        np.testing.assert_allclose(product.positions_px()[0], arrays['xcoords'], atol=1e-6)
        np.testing.assert_allclose(product.positions_px()[1], arrays['ycoords'], atol=1e-6)
    with h5py.File(directory / 'diffraction.h5') as file:
        assert np.issubdtype(file['patterns'].dtype, np.integer)
        assert file['patterns'][()].sum(axis=(1, 2)).mean() == pytest.approx(1e5, rel=0.01)
    assert 'Algorithm = PtychoPINN_PINN' in (directory / 'settings.ini').read_text()


def test_train_and_reconstruct_from_npz_and_directory(directory, model, tmp_path, capsys):
    results = []
    for number, scan in enumerate((directory, directory / 'scan.npz')):
        out = tmp_path / str(number)
        arguments = ['reconstruct', str(scan), '--model', str(model), '--output', str(out)]
        assert main([*arguments, '--quiet']) == 0
        with np.load(out / 'reconstruction.npz') as arrays:
            results.append(arrays['objectGuess'])
        assert (out / 'reconstruction.png').read_bytes()[:4] == b'\x89PNG'
    np.testing.assert_allclose(results[0], results[1], atol=1e-3)
    assert '49 patterns' in capsys.readouterr().out
    product = read_product(tmp_path / '0' / 'product.h5')
    given = read_product(directory / 'product.h5')
    assert product.object_array.shape == given.object_array.shape
    assert product.object_center_x_m == given.object_center_x_m
    assert len(product.loss_values) == 2
    of_npz = read_product(tmp_path / '1' / 'product.h5')
    np.testing.assert_array_equal(of_npz.object_array[0], results[1])
    np.testing.assert_array_equal(of_npz.loss_values, product.loss_values)


def test_train_resumes_and_refuses_another_run(directory, tmp_path, capsys):
    out = tmp_path / 'model'
    words = ['train', str(directory), '--output', str(out), '--filters-scale', '1', '--architecture', 'cnn']
    words += ['--groups', '16', '--scheduler', 'Default', '--quiet']
    assert main([*words, '--epochs', '1']) == 0
    assert main([*words, '--epochs', '3', '--resume']) == 0
    assert [epoch['epoch'] for epoch in load_archive(out).history] == [1, 2, 3]
    assert main([*words, '--epochs', '3', '--resume', '--learning-rate', '0.1']) == 2
    assert 'learning_rate 0.002, but 0.1 was asked for' in capsys.readouterr().err


def test_a_product_alone_gives_a_model_that_the_scan_trains_further(directory, tmp_path, capsys):
    product = tmp_path / 'planned' / 'product.h5'
    product.parent.mkdir()
    shutil.copy(directory / 'product.h5', product)
    quick = ['--epochs', '1', '--groups', '16', '--batch-size', '4', '--filters-scale', '1', '--quiet']
    train = ['train', *quick, '--architecture', 'cnn', '--output']
    assert main([*train, str(tmp_path / 'before'), '--simulate-from', str(product), '--photons', '1e4']) == 0
    before = load_archive(tmp_path / 'before')
    assert before.origins[0].name == 'product.h5'
    assert before.scale.mean_counts == pytest.approx(1e4, rel=1e-3)
    after = [*train, str(tmp_path / 'after'), str(directory), '--start-from']
    assert main([*after, str(tmp_path / 'before'), '--learning-rate', '1e-9', '--weight-decay', '0']) == 0
    for name, weight in load_archive(tmp_path / 'after').weights.items():
        np.testing.assert_allclose(weight, before.weights[name], atol=1e-6)
    for words, sentence in (
        ([str(directory), '--photons', '1e4'], '--photons has no effect without --simulate-from'),
        ([str(directory), '--simulate-from', str(product)], 'were both given'),
        ([], 'nothing to train on'),
    ):
        capsys.readouterr()
        assert main([*train, str(tmp_path / 'x'), *words]) == 2
        assert sentence in capsys.readouterr().err


def test_families_of_simulated_objects_are_those_asked_for(directory):
    words = ['train', '--simulate-from', str(directory), '--families', 'siemens', 'lines', '--output', 'x']
    source = train_command._simulated(build_parser().parse_args(words), TrainingConfig(n_groups=128))
    names = [item.ready().prepared.scan.raw.source.split()[0] for item in source.training(1)]
    assert names == ['siemens', 'lines']


def test_demo_leaves_what_it_promises(tmp_path, capsys):
    out = tmp_path / 'demo'
    code = main(['demo', '--output', str(out), '--points', '8'])
    assert code == 0
    assert {p.name for p in out.iterdir()} == {'scan', 'product.h5', 'demo.png'}
    printed = capsys.readouterr().out
    assert 'flat object' in printed
    assert 'NRMSE' in printed
    after = printed.split('What to try next:')[1].splitlines()
    lines = [line.split() for line in after if line.startswith('    ')]
    for words in lines:
        # Each path is there, or is one that the command makes.
        for word in words[1:]:
            assert '/' not in word or Path(word).exists() or word.startswith(str(out)), words
    assert [words[:3] for words in lines if words[0] == 'ptychodus'] == [
        ['ptychodus'],
        ['ptychodus', '-b', 'reconstruct'],
        ['ptychodus', '-b', 'train'],
    ]
    ours = [words[1:] for words in lines if words[0] == 'ptychopinn']
    assert [words[0] for words in ours] == ['reconstruct', 'doctor']
    for words in ours:
        allowed = {0, 1} if words[0] == 'doctor' else {0}
        assert main([*words, '--quiet']) in allowed


@pytest.mark.parametrize('command', COMMANDS)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, '--help'])
    assert caught.value.code == 0
    assert f'ptychopinn {command}' in capsys.readouterr().out


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, '-m', 'ptycho_engine', *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def broken_inputs(tmp_path: Path, directory: Path, model: Path):
    """Yield (name, arguments, words the sentence must hold)."""
    with np.load(directory / 'scan.npz') as file:
        arrays = dict(file)

    def npz(name, **changes):
        path = tmp_path / f'{name}.npz'
        merged = {**arrays, **changes}
        np.savez(path, **{k: v for k, v in merged.items() if v is not None})
        return path

    train = ['train', '--output', tmp_path / 'out']
    recon = ['reconstruct', '--output', tmp_path / 'out', '--model']
    corrupt = tmp_path / 'corrupt.zip'
    corrupt.write_bytes((model / 'wts.h5.zip').read_bytes()[:5000])
    yield 'missing', [*train, tmp_path / 'none.npz'], 'there is no such file'
    yield 'empty directory', [*train, tmp_path], 'no training data'
    yield 'no keys', [*train, npz('nokeys', diffraction=None)], "'diff3d'"
    yield 'nan', [*train, npz('nan', xcoords=arrays['xcoords'] * np.nan)], 'NaN'
    yield 'negative', [*train, npz('neg', diffraction=-arrays['diffraction'])], 'negative'
    yield 'oblong', [*train, npz('oblong', diffraction=arrays['diffraction'][:, :60])], 'square'
    yield 'no model', [*recon, tmp_path, directory], 'wts.h5.zip'
    yield 'corrupt', [*recon, corrupt, directory], 'not a readable model archive'
    small = small_scan(points=3, size=32)
    small.to_file(tmp_path / 'small.npz')
    yield 'size', [*recon, model, tmp_path / 'small.npz'], '64×64 pixels but the data have 32×32'
    yield 'gridsize', [*train, directory, '--gridsize', '9'], 'from 1 to 5'


def test_cfg_14_bad_input_ends_in_one_sentence_and_exit_code_2(tmp_path, directory, model, capsys):
    for name, arguments, words in broken_inputs(tmp_path, directory, model):
        code = main([*map(str, arguments), '--quiet'])
        error = capsys.readouterr().err.strip()
        assert code == 2, name
        assert words in error, (name, error)
        assert len(error.splitlines()) == 1, (name, error)
    assert not (tmp_path / 'out').exists()


def test_cfg_14_exit_codes_of_the_process(tmp_path):
    done = run('train', tmp_path / 'none.npz', '--output', tmp_path)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert run('train').returncode == 2
    assert run('--version').returncode == 0


def test_cfg_14_a_failure_of_the_machine_is_exit_code_1(directory, model, tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('not a directory')
    done = run('reconstruct', directory, '--model', model, '--output', blocked / 'out', '--quiet')
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr


@pytest.mark.skipif(os.name != 'posix', reason='signals')
def test_ctrl_c_leaves_a_usable_model(directory, tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, '-m', 'ptycho_engine', 'train', str(directory)),
            *('--output', str(tmp_path), '--epochs', '1000', '--early-stop-patience', '1000'),
            *('--architecture', 'cnn', '--filters-scale', '1', '--groups', '48'),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith('Epoch 1/'):
            break
    process.send_signal(signal.SIGINT)
    tic = time.perf_counter()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.perf_counter() - tic < 20
    assert load_archive(tmp_path).history


@pytest.mark.skipif(os.name != 'posix', reason='pseudo-terminals')
def test_a_terminal_sees_a_moving_bar_and_a_file_does_not(directory, tmp_path, capfd):
    import fcntl
    import pty
    import struct
    import termios

    arguments = [
        *(sys.executable, '-m', 'ptycho_engine', 'train', str(directory), '--output', str(tmp_path)),
        *('--epochs', '2', '--filters-scale', '1', '--architecture', 'cnn'),
        *('--groups', '48', '--batch-size', '4'),
    ]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 30, 80, 0, 0))
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b''
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait(60) == 0
    text = shown.decode()
    assert 'training, epoch 1/2' in text
    assert 'training, epoch 2/2' in text
    assert 'left' in text
    assert all(len(line) <= 80 for line in text.split('\r') if line.startswith('training, epoch'))
    # The same where the error output is a file.
    assert main(arguments[3:]) == 0
    said = capfd.readouterr().err
    assert 'training, epoch' not in said
    assert said.count('Epoch ') == 2


def test_every_command_is_listed():
    assert set(COMMANDS) <= set(build_parser().format_help().split())
