"""CONVERT clauses: scans and results in other formats, and parts of scans on every command."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from ptycho_engine.commands import main
from ptycho_engine.formats.cxi import read_cxi_object
from ptycho_engine.formats.product import read_product
from ptycho_engine.scan.results import account_of_result
from ptycho_engine.scan.scan import load_scan


def run(*words) -> int:
    return main([*map(str, words), '--quiet'])


@pytest.mark.parametrize('name', ['scan.npz', 'scan.cxi', 'scan.h5', 'scan'])
def test_convert_01_a_scan_is_the_same_in_every_format(directory, tmp_path, name) -> None:
    """To counts, a billionth of a pixel, and the pixel size."""
    assert run('convert', directory, '--output', tmp_path / name) == 0
    assert run('convert', tmp_path / name, '--output', tmp_path / 'again.npz') == 0
    given, found = load_scan(directory), load_scan(tmp_path / 'again.npz')
    np.testing.assert_allclose(
        np.square(found.raw.diffraction), np.square(given.raw.diffraction), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(np.diff(found.raw.xcoords), np.diff(given.raw.xcoords), atol=1e-6)
    np.testing.assert_array_equal(found.raw.probeGuess, given.raw.probeGuess)
    assert found.raw.metadata['object_pixel_size_m'] == pytest.approx(5e-8)
    assert found.raw.metadata['probe_energy_eV'] == pytest.approx(1e4)


def test_convert_02_an_npz_scan_gets_the_geometry_that_is_said(directory, tmp_path, capsys) -> None:
    with np.load(directory / 'scan.npz') as file:
        np.savez(tmp_path / 'bare.npz', **{name: file[name] for name in file if name != '_metadata'})
    assert run('convert', tmp_path / 'bare.npz', '--output', tmp_path / 'out') == 2
    assert 'Give --energy-eV' in capsys.readouterr().err
    geometry = ['--energy-eV', 8800, '--distance-m', 2, '--pixel-size-m', 75e-6]
    assert run('convert', tmp_path / 'bare.npz', *geometry, '--output', tmp_path / 'out') == 0
    with h5py.File(tmp_path / 'out' / 'diffraction.h5') as file:
        assert file['patterns'].attrs['detector_pixel_width_m'] == pytest.approx(75e-6)
        assert file['patterns'].dtype == np.uint16
    assert run('convert', directory, *geometry, '--output', tmp_path / 'x.npz') == 2
    assert '--energy-eV has no effect on' in capsys.readouterr().err
    assert not (tmp_path / 'x.npz').exists()


def test_convert_05_several_inputs_are_converted_one_by_one(directory, result, tmp_path, capsys) -> None:
    (tmp_path / 'broken.npz').write_bytes(b'PK')
    given = load_scan(directory)
    inputs = [directory, tmp_path / 'broken.npz', directory / 'scan.npz', tmp_path / 'none', result]
    assert run('convert', *inputs, '--output', tmp_path / 'out', '--format', 'npz') == 2
    printed = capsys.readouterr()
    assert len(printed.err.strip().splitlines()) == 2
    assert 'broken.npz is not a readable NPZ file' in printed.err
    assert '3 of 5 were converted.' in printed.out
    made = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert made == sorted([f'{directory.name}.npz', 'scan.npz', f'{result.name}.npz'])
    np.testing.assert_array_equal(load_scan(tmp_path / 'out' / 'scan.npz').raw.xcoords, given.raw.xcoords)
    # What each becomes where nobody says it: a directory, and a product.
    again = [directory, tmp_path / 'out' / f'{directory.name}.npz', result]
    assert run('convert', *again, '--output', tmp_path / 'two') == 0
    assert sorted(path.name for path in (tmp_path / 'two').iterdir()) == sorted(
        [f'{directory.name}-1', f'{directory.name}-2', f'{result.name}.h5']
    )
    assert (tmp_path / 'two' / f'{directory.name}-2' / 'diffraction.h5').is_file()
    assert run('convert', directory, '--output', tmp_path / 'three', '--format', 'cxi') == 0
    assert (tmp_path / 'three' / f'{directory.name}.cxi').is_file()
    assert run('convert', directory, result, '--positions', 'a.csv', '--output', tmp_path / 'x') == 2
    assert '--positions belongs to one scan, but 2 were given' in capsys.readouterr().err


def test_convert_03_results_become_tiff_and_cxi(result, tmp_path) -> None:
    product = read_product(result / 'product.h5')
    assert run('convert', result, '--output', tmp_path / 'image.tif') == 0
    for part, expected in (('amplitude', np.abs), ('phase', np.angle)):
        with tifffile.TiffFile(tmp_path / f'image_{part}.tif') as file:
            page = file.pages[0]
            np.testing.assert_allclose(page.asarray(), expected(product.object_array[0]), rtol=1e-6)
            assert page.dtype == np.float32
            pixels, centimetres = page.tags['XResolution'].value
            assert centimetres / pixels == pytest.approx(product.object_pixel_width_m * 100, rel=1e-6)
            assert page.tags['ResolutionUnit'].value == 3
            described = json.loads(page.description)
            assert described['pixel_width_m'] == product.object_pixel_width_m
            assert described['provenance']['program'] == 'ptychopinn'
    for name in ('image.cxi', 'image.h5', 'image.npz'):
        assert run('convert', result, '--output', tmp_path / name) == 0
        assert account_of_result(tmp_path / name)['provenance']['program'] == 'ptychopinn'
        assert run('convert', tmp_path / name, '--output', tmp_path / 'back.h5') == 0
        found = read_product(tmp_path / 'back.h5')
        np.testing.assert_array_equal(found.object_array, product.object_array)
        assert found.object_pixel_width_m == pytest.approx(product.object_pixel_width_m)


def test_convert_04_a_name_without_a_format_is_refused(directory, result, tmp_path, capsys) -> None:
    for given in (directory, result):
        assert run('convert', given, '--output', tmp_path / 'image.xyz') == 2
        assert 'expected NAME.' in capsys.readouterr().err
    assert run('convert', directory, '--output', directory) == 2
    assert run('convert', result / 'product.h5', '--output', result / 'product.h5') == 2
    assert not list(tmp_path.iterdir())


def test_result_10_formats_are_added_to_a_result(directory, model, tmp_path) -> None:
    """And go where a later run does not ask for them."""
    words = ['reconstruct', directory, '--model', model, '--refine-iterations', 0, '--output', tmp_path / 'r']
    assert run(*words, '--formats', 'tiff', 'cxi') == 0
    product = read_product(tmp_path / 'r' / 'product.h5')
    image = tifffile.imread(tmp_path / 'r' / 'reconstruction_phase.tif')
    np.testing.assert_allclose(image, np.angle(product.object_array[0]), rtol=1e-5, atol=1e-6)
    found = read_cxi_object(tmp_path / 'r' / 'reconstruction.cxi')
    np.testing.assert_array_equal(found.object_array, product.object_array)
    assert found.comments == product.comments
    assert run(*words) == 0
    assert {path.name for path in (tmp_path / 'r').iterdir()} == {
        *('product.h5', 'reconstruction.npz', 'reconstruction.png')
    }


@pytest.fixture(scope='module')
def parts(directory, tmp_path_factory) -> Path:
    """Patterns, positions and probe of the scan, each as an array of its own."""
    folder = tmp_path_factory.mktemp('parts')
    scan = load_scan(directory)
    with h5py.File(directory / 'diffraction.h5') as file:
        np.savez(folder / 'frames.npz', data=file['patterns'][()])
    product = scan.product
    np.save(folder / 'where.npy', np.stack([product.position_y_m, product.position_x_m], axis=1) * 1e6)
    np.save(folder / 'probe.npy', scan.raw.probeGuess)
    return folder


def words_of(parts: Path) -> list:
    words = [f'{parts / "frames.npz"}::data', '--positions', parts / 'where.npy', '--positions-unit', 'um']
    return [*words, '--probe', parts / 'probe.npy', '--energy-eV', 1e4, '--distance-m', 2]


@pytest.mark.parametrize('command', ['doctor', 'reconstruct', 'train', 'prepare', 'convert'])
def test_open_08_every_command_takes_parts_of_a_scan(parts, directory, tmp_path, command) -> None:
    pixel = 1.2398419843e-6 / 1e4 * 2 / (64 * 5e-8)
    words = [*words_of(parts), '--pixel-size-m', pixel]
    more = {
        'doctor': ['--data-only'],
        'reconstruct': ['--model', 'none', '--output', tmp_path / 'r', '--n-subsample', 9],
        'train': ['--output', tmp_path / 'm', '--epochs', 1, '--groups', 8, '--architecture', 'cnn'],
        'prepare': ['--output', tmp_path / 'p.npz'],
        'convert': ['--output', tmp_path / 'c.npz'],
    }[command]
    assert run(command, *words, *more) == 0
    if command in ('prepare', 'convert'):
        found, given = load_scan(tmp_path / f'{command[0]}.npz').raw, load_scan(directory).raw
        np.testing.assert_array_equal(found.diffraction, given.diffraction)
        np.testing.assert_allclose(np.diff(found.xcoords), np.diff(given.xcoords), atol=1e-5)
    if command == 'reconstruct':
        product = read_product(tmp_path / 'r' / 'product.h5')
        assert product.object_pixel_width_m == pytest.approx(5e-8, rel=1e-6)
        assert product.name == 'frames'


def test_open_09_mistakes_are_one_sentence(parts, directory, tmp_path, capsys) -> None:
    words = words_of(parts)

    def said(*more) -> str:
        assert run('doctor', '--data-only', '--json', *more) in (1, 2)
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return captured.out + captured.err

    assert 'give --pixel-size-m (of the detector)' in said(*words)
    assert 'expected a positive number' in said(*words, '--pixel-size-m', -1)
    assert 'span' in said(*words, '--pixel-size-m', 1e-6, '--positions-unit', 'm')
    assert '--probe belongs to one scan, but 2 were given' in said(
        directory, directory, '--probe', parts / 'probe.npy'
    )
    assert 'there is no such file' in said(parts / 'none.tif', '--positions', parts / 'where.npy')
    assert '--positions-unit has no effect on' in said(directory, '--positions-unit', 'um')


def test_open_10_without_ptychodus_that_is_said(parts, tmp_path) -> None:
    (tmp_path / 'frames.tif').write_bytes(b'II')
    code = (
        'import sys, importlib.metadata as m\n'
        'find = m.version\n'
        'def version(name):\n'
        '    if name == "ptychodus": raise m.PackageNotFoundError(name)\n'
        '    return find(name)\n'
        'm.version = version\n'
        'from ptycho_engine.commands import main\n'
        'sys.exit(main(sys.argv[1:]))'
    )
    words = [
        'convert',
        tmp_path / 'frames.tif',
        '--positions',
        parts / 'where.npy',
        '--output',
        tmp_path / 'x.npz',
    ]
    done = subprocess.run(
        [sys.executable, '-c', code, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'Ptychodus is not installed, whose readers open files of beamlines' in done.stderr.replace(
        '\n', ' '
    )


def test_open_11_and_12_corners_and_mirrored_stages(parts, directory, tmp_path):
    """Patterns with zero frequency in their corners, and a stage that runs against the columns."""
    with np.load(parts / 'frames.npz') as file:
        frames = file['data']
    np.savez(tmp_path / 'corner.npz', data=np.fft.ifftshift(frames, axes=(1, 2)))
    where = np.load(parts / 'where.npy')
    np.save(tmp_path / 'where.npy', where * [1, -1])
    words = [f'{tmp_path / "corner.npz"}::data', '--positions', tmp_path / 'where.npy', '--mirror', 'x']
    words += [*words_of(parts)[3:], '--pixel-size-m', 75e-6]
    assert run('convert', *words, '--output', tmp_path / 'c.npz') == 0
    found, given = load_scan(tmp_path / 'c.npz').raw, load_scan(directory).raw
    np.testing.assert_array_equal(found.diffraction, given.diffraction)
    scale = np.ptp(given.xcoords) / np.ptp(found.xcoords)
    np.testing.assert_allclose(scale * np.diff(found.xcoords), np.diff(given.xcoords), atol=1e-4)
    np.testing.assert_allclose(scale * np.diff(found.ycoords), np.diff(given.ycoords), atol=1e-4)
    assert run('doctor', '--data-only', directory, '--mirror', 'x') == 1
