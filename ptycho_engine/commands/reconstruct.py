"""Reconstruct scans with the learned prior that comes with the package, or with a trained model.

INPUT is an NPZ file, a Ptychodus directory (diffraction.h5 and product.h5) or a CXI file; with --positions
the patterns alone, in any file that Ptychodus reads. Writes into the output directory or, where several scans
are given, into a folder of it for each
  reconstruction.npz   object, illumination, uncertainty, positions, and how
                       they came about
  reconstruction.png   amplitude, phase, illumination and uncertainty
  product.h5           a Ptychodus product; an NPZ file without pixel sizes
                       gets estimated ones, as from convert-product
with --formats also
  reconstruction_amplitude.tif, reconstruction_phase.tif, reconstruction.cxi
and with --truth what `ptychopinn evaluate` writes: scores and a figure.

examples:
  ptychopinn reconstruct scan --output result
  ptychopinn reconstruct scan --model model --output out --truth scan/truth.h5
  ptychopinn reconstruct a.npz b.npz --model model --output results
  ptychopinn reconstruct frames_0001.tif --positions stage.csv \\
    --energy-eV 8800 --distance-m 2 --pixel-size-m 55e-6 --output result
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import InferenceConfig, PyTorchExecutionConfig
from ..errors import ConfigError
from ..formats.archive import ModelArchive, find_archive
from ..formats.cxi import write_cxi
from ..formats.npz import write_arrays
from ..formats.packaged import NO_MODEL, load_model, model_record
from ..formats.product import write_product
from ..formats.provenance import file_record, made_by, patterns_sha256, with_provenance
from ..formats.tiff import write_tiff
from ..io.folder_lock import sole_writer
from ..io.preflight import require_room, require_writable
from ..io.staging import staged
from ..patterns.stack import Patterns
from ..reconstruction.evaluate import ObjectFile, object_on_grid, on_common_grid, read_object
from ..reconstruction.picture import object_figure, save_figure
from ..reconstruction.reconstruct import reconstruct, require_fit
from ..reconstruction.result import Reconstructed, Reconstruction
from ..scan.product_exchange import ExportMeta, product_metadata, product_of_rawdata
from ..scan.scan import Scan, is_ptychodus_directory
from ..scan.written import PROGRAM
from ..scoring.scores import require_comparable, scan_box
from .evaluate import TABLES, report_scores, unique
from .inputs import Opening, add_inputs, opening
from .interrupt import stop_on_interrupt
from .options import CommandParser, add_settings, read_settings
from .paragraph import say

PRODUCT = 'product.h5'
CALIBRATED = ('intensity', 'background', 'bad_pixels')
"""What else belongs to an object where calibration found it."""
MORE_FILES = {
    'tiff': ('reconstruction_amplitude.tif', 'reconstruction_phase.tif'),
    'cxi': ('reconstruction.cxi',),
}
"""What ``--formats`` adds."""
FILES = ('reconstruction.npz', 'reconstruction.png', PRODUCT)
COMMAND = 'ptychopinn reconstruct'


def add_arguments(parser: CommandParser) -> None:
    """Declare the options of ``ptychopinn reconstruct``."""
    parser.add_argument('inputs', nargs='+', type=Path, metavar='INPUT', help='the scans')
    parser.add_argument(
        '--model',
        type=Path,
        metavar='MODEL',
        help='wts.h5.zip, or the directory that holds it; "none" for physics alone (default: the prior that '
        'comes with the package, which needs no training)',
    )
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='output directory')
    parser.add_argument(
        '--truth',
        type=Path,
        metavar='FILE',
        help='product or NPZ file with the known object of the scan, to score with',
    )
    parser.add_argument(
        '--start-from-object',
        type=Path,
        metavar='FILE',
        help='begin at the object of this product, NPZ or CXI file, such as an earlier result, and not at a '
        'flat one; it is resampled where it lies on other pixels',
    )
    parser.add_argument(
        '--formats',
        nargs='+',
        choices=tuple(MORE_FILES),
        default=(),
        metavar='FORMAT',
        help=f'write the result in these formats too: {", ".join(MORE_FILES)}',
    )
    add_inputs(parser)
    add_settings(parser, 'reconstruct')


def run(options: argparse.Namespace) -> None:
    """Reconstruct and write the results, scan by scan."""
    settings = read_settings(options)
    config, execution = settings.inference(), settings.execution
    if options.truth is not None and len(options.inputs) > 1:
        raise ConfigError(
            f'--truth is the object of one scan, but {len(options.inputs)} scans were given; compare each '
            'result with its own by ptychopinn evaluate.'
        )
    archive = load_model(options.model)
    truth = None if options.truth is None else read_object(options.truth, truth=True)
    opened = opening(options)
    opened.require_one(options.inputs)
    trained = options.model is not None and str(options.model) != NO_MODEL
    read = [file for path in options.inputs for file in opened.files(path)]
    read += [find_archive(options.model)] if trained else []
    read += [file for file in (options.truth, options.start_from_object) if file is not None]
    begin = None if options.start_from_object is None else read_object(options.start_from_object)
    directories = _directories(options.inputs, options.output, archive, read, opened)
    with ExitStack() as held:
        for directory in directories:
            held.enter_context(sole_writer(directory, COMMAND))
        model = model_record(options.model)
        for path, directory in zip(options.inputs, directories, strict=True):
            started = datetime.now(UTC)
            scan = _load(path, archive, opened)
            if truth is not None:
                _require_comparable(truth, scan)
            require_room(directory, _result_bytes(scan), 'the results')
            assert scan.product is not None
            first = None if begin is None else object_on_grid(begin, scan.product.grid)
            result = run_reconstruction(scan, archive, config, execution, first)
            record = made_by(
                options.words,
                (config, execution),
                model=model,
                data=map(file_record, opened.files(path)),
                started=started,
                **_patterns_record(scan, foreign=opened.is_foreign(path)),
            )
            written = write_results(directory, scan, result, record, options.formats)
            if options.quiet or not sys.stdout.isatty():
                # On a terminal the log has just said it.
                say(*result.comments.splitlines())
            say(f'Wrote {", ".join(written)} to {directory}.')
            if truth is not None:
                report_scores([read_object(directory / FILES[0])], truth, scan, directory)


def _directories(
    inputs: Sequence[Path], output: Path, archive: ModelArchive, read: Sequence[Path], opened: Opening
) -> list[Path]:
    """Return where the results of each scan go.

    Several scans are all looked at before the first is reconstructed; none is kept, for there may be many.
    """
    if len(inputs) == 1:
        directories = [output]
    else:
        directories = [
            output / name for name in unique([_name(_load(path, archive, opened)) for path in inputs])
        ]
    for directory in directories:
        if is_ptychodus_directory(directory):
            raise ConfigError(
                f'{directory} holds a scan, whose product.h5 would be lost; give another --output.'
            )
        require_writable(directory, FILES, inputs=read)
    return directories


def _result_bytes(scan: Scan) -> int:
    """Return about how much the arrays and the product of a result take."""
    assert scan.product is not None
    height, width = scan.grid.shape
    # As complex in both files, with two maps in the one and one in the other.
    pixels = height * width * (2 * 8 + 3 * 4)
    extras = len(scan.product.extras.image) + sum(size for _, size in scan.product.extras.large)
    return pixels + 2 * scan.product.probe.nbytes + 2 * scan.product.position_x_m.nbytes + extras


def _load(path: Path, archive: ModelArchive, opened: Opening) -> Scan:
    """Load a scan that the model is for, with the product that it came with or one made of it."""
    scan = opened.load(path)
    require_fit(archive, scan)
    return with_product(scan)


def with_product(scan: Scan) -> Scan:
    """Return a scan with the product that it came with, or one made of it."""
    if scan.product is not None:
        return scan
    return replace(scan, product=product_of_rawdata(scan.raw, ExportMeta(name=_name(scan))))


def _name(scan: Scan) -> str:
    """Return the name of the file or directory that holds a scan."""
    path = scan.raw.path
    assert path is not None
    return path.resolve().name if path.is_dir() else path.stem


def _require_comparable(truth: ObjectFile, scan: Scan) -> None:
    """Check that a result on the grid of the scan can be scored."""
    assert scan.product is not None
    blank = np.broadcast_to(np.complex64(1), scan.grid.shape)
    x, y = scan.product.positions_px()
    result = ObjectFile(Path(scan.raw.source), blank, x=x, y=y, grid=scan.product.grid)
    truth, result = on_common_grid(truth, result)
    require_comparable(truth.object_array.shape, result.object_array.shape, result.box())


def run_reconstruction(
    scan: Scan,
    archive: ModelArchive,
    config: InferenceConfig,
    execution: PyTorchExecutionConfig,
    begin: npt.NDArray[np.complex64] | None = None,
) -> Reconstruction:
    """Reconstruct; `begin` is as for :func:`~..reconstruction.reconstruct.reconstruct`.

    Raises
    ------
    Cancelled, Terminated
        If Ctrl-C or another signal stopped it.
    """
    with stop_on_interrupt() as stopped:
        for event in reconstruct(
            scan, archive, config, execution=execution, should_stop=stopped, begin=begin
        ):
            if isinstance(event, Reconstructed):
                return event.reconstruction
    raise AssertionError('a reconstruction ends with its result')


def _patterns_record(scan: Scan, *, foreign: bool) -> dict[str, Any]:
    """Return which patterns a result is of, unless that takes another pass over a file that says it itself.

    Of files of others it may depend on the reader what they hold.
    """
    if isinstance(scan.raw.diffraction, Patterns) and not foreign:
        return {}
    return {'patterns': {'name': scan.raw.source, 'sha256': patterns_sha256(scan.raw.diffraction)}}


def write_results(
    directory: Path,
    scan: Scan,
    result: Reconstruction,
    record: dict[str, Any],
    formats: Sequence[str] = (),
) -> tuple[str, ...]:
    """Write arrays, picture and product together, in place of those of an earlier run and its scores.

    `record` says how they came about (:func:`~..formats.provenance.made_by`), `formats` are names of
    :data:`MORE_FILES`. Returns the names of the files.
    """
    assert scan.product is not None
    grid = result.grid
    x, y = scan.raw.xcoords - grid.origin_x, scan.raw.ycoords - grid.origin_y
    if result.position_shift is not None:
        dy, dx = result.position_shift.T
        x, y = x + dx, y + dy
    found = {name: getattr(result, name) for name in CALIBRATED}
    more = tuple(name for chosen in formats for name in MORE_FILES[chosen])
    others = (name for names in MORE_FILES.values() for name in names)
    written = result.to_product(scan.product)
    written = replace(written, extras=with_provenance(written.extras, record))
    results = {**product_metadata(scan.product), **result.results, 'provenance': record}
    with staged(directory, remove=(*TABLES, *others, f'{directory.resolve().name}.png')) as staging:
        # The product comes first, for it is what others may be looking at.
        product, arrays, picture = (staging.path(name) for name in (PRODUCT, *FILES[:2]))
        write_arrays(
            arrays,
            {
                'objectGuess': result.object_array,
                'weight': result.weight,
                'uncertainty': result.uncertainty,
                'probeGuess': scan.raw.probeGuess if result.probe is None else result.probe,
                'xcoords': x,
                'ycoords': y,
                **{name: values for name, values in found.items() if values is not None},
                '_metadata': np.array(json.dumps(results)),
            },
        )
        save_figure(object_figure(result, scan_box(x, y, grid.shape)), picture)
        write_product(product, written)
        pixel = written.object_pixel_height_m, written.object_pixel_width_m
        if 'tiff' in formats:
            amplitude, phase = (staging.path(name) for name in MORE_FILES['tiff'])
            write_tiff(
                *(amplitude, phase, result.object_array, pixel),
                name=written.name,
                comments=result.comments,
                provenance=record,
            )
        if 'cxi' in formats:
            write_cxi(
                staging.path(*MORE_FILES['cxi']),
                written,
                program={**PROGRAM, 'provenance': json.dumps(record)},
            )
    return (*FILES, *more)
