"""The tutorials run as they are stored, and each ends with a picture and the number that docs/ states."""

import bz2
import importlib
import io
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from ptycho_engine.simulate import defocused_probe, make_object, raster_positions, simulate_scan

pytest.importorskip('IPython', reason="pip install '.[test]'")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / 'docs' / 'tutorials').glob('*.ipynb'))
LARGEST = {
    '1-first-image': (0.015,),
    '2-doctor': (None, 0.015),
    '3-unknown-probe': (0.015, 0.025),
    '4-sparse': (0.09, 0.065),
    '5-training': (0.03,),
    '6-live': (0.015,),
    '7-measured-scan': (None, 3.0),
}
"""NRMSEs that the last cell of each prints, at most (held-out deviances of the measured scan); None where the
scan is wrong."""
STAR = ROOT.parent / 'shared' / 'data' / 'siemens-star-small.npz.bz2'


def stand_in():
    """Return a file like that of the measured star, of a simulated object, with a probe out of focus."""
    rng = np.random.default_rng(5)
    right, wrong = (
        defocused_probe(128, np.random.default_rng(1), width_px=20, defocus_rad=rad) for rad in (9, 15)
    )
    x, y = raster_positions(9, 9, 14.0, rng)
    truth = make_object('siemens', (260, 260), rng, absorption=0.2, phase=1.0)
    raw = simulate_scan(truth, right, x + 130 - x.mean(), y + 130 - y.mean(), photons=1e5, rng=rng)
    file = io.BytesIO()
    np.savez(
        file,
        data=np.fft.ifftshift(np.rint(np.square(raw.diff3d)), axes=(1, 2))[None].astype(np.float32),
        scan=np.stack([y - y.mean(), x - x.mean()], axis=1)[None].astype(np.float32),
        probe=np.reshape(wrong, (1, 1, 1, 1, 128, 128)).astype(np.complex64),
    )
    return file.getvalue()


@pytest.fixture(scope='module')
def tutorials():
    """Return docs/tutorials.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / 'docs')
        # IPython takes its place, and other tests start processes from it.
        patch.setitem(sys.modules, '__main__', sys.modules['__main__'])
        module = importlib.import_module('tutorials')
        yield module
    module.Shell.clear_instance()


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_ends_with_a_picture_and_a_number(path, tutorials, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', tutorials.INLINE)
    if path.stem == '7-measured-scan':
        unpacked = bz2.decompress(STAR.read_bytes()) if STAR.is_file() else stand_in()
        Path('siemens-star-small.npz').write_bytes(unpacked)
    outcome = tutorials.run(path)
    with Image.open(io.BytesIO(outcome.picture)) as picture:
        assert np.asarray(picture.convert('L')).std() > 10
    found = [float(number) for number in re.findall(r'(?:NRMSE|deviance|,) (\d+\.\d+)', outcome.printed)]
    for value, most in zip(found, LARGEST[path.stem], strict=False):
        assert value > 0.5 if most is None else value < most, outcome.printed
    assert len(found) >= len(LARGEST[path.stem])
    if path.stem == '1-first-image':
        (table,) = (data['text/html'] for data in outcome.shown if 'text/html' in data)
        assert '144 of 32×32 pixels' in table
        assert '<th>step</th>' in table
    if path.stem == '4-sparse':
        assert found[1] < 0.85 * found[0], 'the prior helps'


def test_tutorials_are_stored_without_outputs_and_have_their_pictures():
    assert {path.stem for path in NOTEBOOKS} == LARGEST.keys()
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get('outputs'), path.name
            assert cell.get('execution_count') is None, path.name
        assert (ROOT / 'docs' / 'pictures' / 'tutorials' / f'{path.stem}.png').stat().st_size > 5000


def test_binder_installs_what_is_tested():
    """In its own words: repo2docker runs `postBuild` in the root of the repository."""
    script = ROOT / 'binder' / 'postBuild'
    assert subprocess.run(['bash', '-n', str(script)], check=False).returncode == 0
    assert '-c constraints.txt torch .' in script.read_text()
    assert script.stat().st_mode & 0o100
