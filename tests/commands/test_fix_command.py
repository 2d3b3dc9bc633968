"""DOUBT-08: the command in a warning can be pasted."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.diagnostics.doubts import find_doubts
from ptycho_engine.scan.fix_command import fix_command
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

COMMAND = re.compile(r'ptychopinn (doctor .+? --fix .+?) corrects it')


@pytest.fixture(scope='module')
def good() -> RawData:
    return small_scan(points=6, size=32, step=3.5)


def pasted(said: str) -> list[str]:
    """Return the words of the command in what was said, as a shell has them."""
    found = COMMAND.search(said)
    assert found is not None, said
    return shlex.split(found[1])


@pytest.mark.parametrize('parts', [False, True])
def test_doubt_08_the_command_of_a_warning_repairs_the_scan(good, parts, tmp_path, capsys):
    """With spaces in its path, and of patterns and positions in files of their own."""
    folder = tmp_path / "two o'clock"
    folder.mkdir()
    scan = folder / 'my scan.npz'
    turned = replace(good, diffraction=good.diffraction[:, ::-1].copy())
    turned.to_file(scan)
    words = [str(scan)]
    if parts:
        scan = folder / 'my patterns.npy'
        np.save(scan, np.rint(np.square(turned.diffraction)).astype(np.int32))
        places = folder / 'places.npy'
        np.save(places, np.stack([good.xcoords, good.ycoords], axis=1))
        words = [str(scan), '--positions', str(places), '--positions-unit', 'px']
        words += ['--positions-order', 'xy', '--probe', str(folder / 'my scan.npz')]
    assert (
        main(['reconstruct', *words, '--output', str(tmp_path / 'out'), '--calibrate', 'off', '--quiet']) == 0
    )
    command = pasted(capsys.readouterr().err)
    assert command[:2] == ['doctor', str(scan)]
    assert main([*command, '--quiet']) == 0
    fixed = RawData.from_file(folder / f'{scan.stem}-fixed.npz')
    np.testing.assert_allclose(fixed.diffraction[:], good.diffraction, atol=1e-5)


def test_doubt_08_a_scan_is_named_by_its_file_where_no_command_read_it(good, monkeypatch, tmp_path):
    """In the folder in which the user is too; one in memory has no command."""
    path = tmp_path / 'a b.npz'
    cornered = replace(good, probeGuess=np.fft.fftshift(good.probeGuess, axes=(-2, -1)))
    cornered.to_file(path)
    command = f"ptychopinn doctor '{path}' --fix '{tmp_path / 'a b-fixed.npz'}'"
    raw = RawData.from_file(path)
    assert fix_command(raw) == command
    assert f'({command} does it)' in find_doubts(ScanModel(Scan.from_raw(raw)))['probe']
    monkeypatch.chdir(tmp_path)
    folder = replace(raw, path=Path('.'))
    assert fix_command(folder) == f'ptychopinn doctor . --fix {tmp_path.parent / tmp_path.name}-fixed.npz'
    assert 'once the scan is in a file' in fix_command(cornered)
