"""What is done with a damaged file of each kind: all that commands would do up to the computation."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ptycho_engine.commands import main
from ptycho_engine.config.files import read_sections
from ptycho_engine.errors import EngineError
from ptycho_engine.formats.archive import load_archive, read_manifest
from ptycho_engine.formats.checkpoint import load_checkpoint
from ptycho_engine.formats.product import read_product, write_product
from ptycho_engine.patterns import frame_stack
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import load_scan, load_training_scans

from . import mutate
from .linked import FRAMES, PLACES
from .samples import GRIDSIZE, NEIGHBOURS, Samples

LONGEST_SENTENCE = 1500


@dataclass(frozen=True)
class Kind:
    """A kind of file: which good one is damaged how, and what reads it then."""

    source: str
    """Path below the folder of the samples."""
    damage: mutate.Mutation
    read: Callable[[Path, Samples], str]
    """Takes the damaged file, in a folder of its own; returns a digest of what was understood."""


class Complaint(AssertionError):
    """A reader did something that it must not do."""


def _require_sentence(text: str) -> None:
    """A message is one line of readable text."""
    if not text.strip() or len(text) > LONGEST_SENTENCE:
        raise Complaint(f'a message of {len(text)} characters: {text[:200]!r}')
    strange = [letter for letter in text if not letter.isprintable()]
    if strange:
        raise Complaint(f'a message with {strange[0]!r}: {text[:500]!r}')


def sentence_or(action: Callable[[], str]) -> str:
    """Return what `action` does, or 'refused' where it ends with a sentence."""
    try:
        return action()
    except EngineError as error:
        _require_sentence(str(error))
        return 'refused'


def command(*words: object) -> int:
    """Run a command; its exit code is 0, 1 or 2 and, where it is not 0, its last line says why."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    if code not in (0, 1, 2) or 'Traceback' in err.getvalue():
        raise Complaint(f'{words}: exit code {code}: {err.getvalue()[-2000:]}')
    if code and not (err.getvalue() + out.getvalue()).strip():
        raise Complaint(f'{words}: exit code {code} without a word')
    for line in (out.getvalue() + err.getvalue()).splitlines():
        if line.strip():
            _require_sentence(line.strip()[:LONGEST_SENTENCE])
    return code


def _digest(*arrays: object) -> str:
    summary = hashlib.sha256()
    for array in arrays:
        summary.update(np.ascontiguousarray(np.asarray(array)).tobytes())
    return summary.hexdigest()


def _scans(path: Path) -> str:
    scans = load_training_scans(path)
    return ' '.join(
        _digest(scan.raw.diffraction[:], scan.raw.probeGuess, scan.raw.xcoords, scan.raw.ycoords)
        for scan in scans
    )


def _written_or_nothing(output: Path, code: int) -> None:
    """A command that failed leaves nothing; hidden files are left by none."""
    left = [item for item in output.parent.iterdir() if item.name.startswith('.')]
    if left or (code and output.exists()):
        raise Complaint(f'exit code {code}, left behind: {left or output}')


def read_npz(path: Path, samples: Samples) -> str:
    """Load it as training data, convert it to a product, prepare it, make a fixture of it."""
    seen = sentence_or(lambda: _scans(path))
    output = path.parent / 'out' / 'product.h5'
    output.parent.mkdir()
    code = command('convert-product', '--input-npz', path, '--output-product', output)
    _written_or_nothing(output, code)
    output = path.parent / 'out' / 'prepared.npz'
    _written_or_nothing(output, command('prepare', path, '--output', output))
    return seen


def read_directory(path: Path, samples: Samples) -> str:
    """Load the Ptychodus directory of which it is one file."""
    for name in ('diffraction.h5', 'product.h5'):
        if path.name != name:
            shutil.copy(samples.directory / name, path.parent / name)
    return sentence_or(lambda: _scans(path.parent))


def read_product_file(path: Path, samples: Samples) -> str:
    """Validate it, write it again, and load the scan that it is part of."""
    code = command('validate-product', path)

    def again() -> str:
        product = read_product(path)
        copy = path.parent / 'out' / 'again.h5'
        copy.parent.mkdir()
        write_product(copy, product)
        if code == 0 and command('validate-product', copy):
            raise Complaint('a valid product is not valid when it is written again')
        return _digest(product.object_array, product.probe, product.position_x_m)

    seen = sentence_or(again)
    if code == 0 and seen == 'refused':
        raise Complaint('what the reader refuses was called valid')
    return seen + read_directory(path, samples)


def read_bundle(path: Path, samples: Samples) -> str:
    """Load a product that holds its patterns, or a training file."""
    return sentence_or(lambda: _scans(path))


def read_archive(path: Path, samples: Samples) -> str:
    """Load a model and say what it is."""

    def load() -> str:
        model = load_archive(path)
        return _digest(model.probe, *(model.weights[name] for name in sorted(model.weights)))

    seen = sentence_or(load)
    sentence_or(lambda: repr(read_manifest(path)))
    command('inspect', path)
    return seen


def read_checkpoint(path: Path, samples: Samples) -> str:
    """Load a checkpoint, as a run that goes on and as a model."""

    def load() -> str:
        found = load_checkpoint(path)
        return repr(found.progress) + _digest(*(found.weights[name] for name in sorted(found.weights)))

    return sentence_or(load) + read_archive(path, samples)


def read_cache(path: Path, samples: Samples) -> str:
    """Draw neighbours with a damaged cache beside the scan: always those of the positions."""
    scan = path.parent / samples.npz.name
    shutil.copy(samples.npz, scan)
    found = RawData.from_file(scan).neighbourhood(GRIDSIZE, NEIGHBOURS)
    return _digest(found.near)


def read_settings(path: Path, samples: Samples) -> str:
    """Read a settings file as ``--config`` does, and every one of its values."""
    seen = sentence_or(lambda: repr(read_sections(path, ['training'])))
    # The settings are read before the scan, which is not there.
    command('train', path.parent / 'no.npz', '--config', path, '--output', path.parent / 'out')
    return seen


def read_linked(path: Path, samples: Samples, place: str) -> str:
    """Load the scan of which it is one file, in memory and in place; it is what HDF5 itself reads there."""
    for item in (samples.folder / 'linked' / place).iterdir():
        if item.name != path.name:
            shutil.copy(item, path.parent / item.name)
    seen, limit = [], frame_stack.MEMORY_LIMIT_BYTES
    try:
        for frame_stack.MEMORY_LIMIT_BYTES in (limit, 0):
            seen.append(sentence_or(lambda: _linked_scan(path.parent)))
    finally:
        frame_stack.MEMORY_LIMIT_BYTES = limit
    if seen[0] != seen[1]:
        raise Complaint('the scan is another in memory than in its file')
    return seen[0]


def _linked_scan(folder: Path) -> str:
    raw = load_scan(folder).raw
    amplitude, good = raw.diffraction[:], raw.valid
    with h5py.File(folder / 'diffraction.h5') as file:
        expected = np.sqrt(file['patterns'][()].astype(np.float32))
    if len(amplitude) == len(expected):
        right = np.array_equal(amplitude[:, good], expected[:, good])
    else:
        right = all((pattern[good] == expected[:, good]).all(axis=1).any() for pattern in amplitude)
    if not right:
        raise Complaint('the patterns are not those that HDF5 reads')
    return _digest(amplitude, raw.probeGuess, raw.xcoords, raw.ycoords)


KINDS: Mapping[str, Kind] = {
    'npz': Kind('scan.npz', mutate.damage_npz, read_npz),
    'stored_npz': Kind('stored.npz', mutate.damage_npz, read_npz),
    'diffraction': Kind('directory/diffraction.h5', mutate.damage_hdf5, read_directory),
    'product': Kind('directory/product.h5', mutate.damage_hdf5, read_product_file),
    'bundle': Kind('bundle.h5', mutate.damage_hdf5, read_bundle),
    'training': Kind('training.h5', mutate.damage_hdf5, read_bundle),
    'archive': Kind('wts.h5.zip', mutate.damage_sealed, read_archive),
    'checkpoint': Kind('checkpoint.zip', mutate.damage_sealed, read_checkpoint),
    'cache': Kind('scan.g2k5.groups_cache.npz', mutate.damage_npz, read_cache),
    'toml': Kind('train.toml', mutate.damage_text, read_settings),
    'yaml': Kind('train.yaml', mutate.damage_text, read_settings),
    'json': Kind('train.json', mutate.damage_json, read_settings),
    **{
        f'{place}_{word}': Kind(
            f'linked/{place}/{name}', mutate.flip_or_cut, functools.partial(read_linked, place=place)
        )
        for place in PLACES
        for word, name in (('master', 'diffraction.h5'), ('frames', FRAMES))
    },
}
