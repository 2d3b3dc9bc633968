"""Follow a scan that runs, and show and write its image."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..config import InferenceConfig, PyTorchExecutionConfig
from ..errors import ConfigError, DataFileNotFoundError
from ..formats.archive import ModelArchive
from ..formats.measurement import Geometry
from ..formats.named_array import NamedArray
from ..formats.packaged import load_model, model_record
from ..formats.product import write_product
from ..formats.product_data import ProductData
from ..formats.provenance import made_by, patterns_sha256
from ..io.folder_lock import sole_writer
from ..io.preflight import require_writable
from ..io.staging import staged
from ..live.page import LivePage
from ..live.session import LiveSession, open_session
from ..live.snapshot import Snapshot
from ..live.sources import (
    FolderSource,
    GrowingPositions,
    Hdf5Source,
    LiveSource,
    PositionFollower,
    ReplaySource,
    TextPositions,
)
from ..live.zmq_sources import PandaPositions, ZmqAddress, ZmqSource
from ..reconstruction.picture import save_figure
from ..reconstruction.result import Reconstruction
from ..scan.measured import probe_of_size
from ..scan.product_exchange import ExportMeta, product_of_rawdata
from ..scan.raw_data import RawData
from ..scan.scan import Scan
from .arguments.inputs import ESTIMATE, UNITS
from .inputs import Opening, opening
from .interrupt import stop_on_interrupt
from .live_display import Display
from .options import read_settings
from .paragraph import say
from .reconstruct import run_reconstruction
from .result_files import FILES, PRODUCT, with_product, write_results
from .scan_parts import read_probe
from .streams import one_reader

logger = logging.getLogger('ptychopinn.live')

COMMAND = 'ptychopinn live'
PICTURE = 'so_far.png'
TOLD_S = 1.0
"""Between two progress lines on a terminal."""
SLEEP_S = 0.01
"""Where nothing came and there is no image to improve."""


def run(options: argparse.Namespace) -> None:
    """Follow a source to its end, and reconstruct what came."""
    settings = read_settings(options)
    config, execution = settings.inference(), settings.execution
    for name in ('rate', 'frames', 'idle', 'every'):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ConfigError(f'--{name} is {value}; expected a positive number.')
    if (options.source is None) == (options.replay is None):
        raise ConfigError('Give the frames as SOURCE, or a scan to --replay; one of them.')
    if options.rate is not None and options.replay is None:
        raise ConfigError('--rate is that of --replay; SOURCE has its own.')
    archive = load_model(options.model)
    opened = opening(options)
    started = datetime.now(UTC)
    read = [options.replay] if options.replay is not None else []
    require_writable(options.output, (*FILES, PICTURE), inputs=read)
    with _page(options.web) as page, sole_writer(options.output, COMMAND):
        session, source, played = _begin(options, opened, archive, config, execution)
        with session, closing(source), Display(page, quiet=options.quiet) as display:
            _follow(session, source, options, played, opened, display)
            scan = _kept_scan(session, played, opened)
        display.reconstructing(scan)
        result, written = _finish(
            options.output, scan, archive, (config, execution), options.model, options.words, started
        )
        display.ended(result, scan)
        (options.output / PICTURE).unlink(missing_ok=True)
        if options.quiet or not one_reader():
            # Elsewhere the log has just said it.
            say(*result.comments.splitlines())
        say(f'Wrote {", ".join(written)} to {options.output}.')


@contextmanager
def _page(port: int | None) -> Iterator[LivePage | None]:
    """Serve the page of ``--web`` while the block runs."""
    if port is None:
        yield None
        return
    with LivePage(port) as page:
        say(f'To watch: {page.url}')
        yield page


def write_final(
    output: Path, session: LiveSession, model: str | None, object_pixel_size_m: float | None
) -> None:
    """Reconstruct what a session has kept, and write it as ``ptychopinn reconstruct`` does.

    Parameters
    ----------
    output : Path
        Folder.
    model : str, optional
        The model of the session, as for ``--model``.
    object_pixel_size_m : float, optional
        Side of an object pixel, where it is known.

    Raises
    ------
    FolderInUseError
        If another process writes into the folder.
    """
    started, settings = datetime.now(UTC), (InferenceConfig(), PyTorchExecutionConfig())
    opened = Opening(geometry=Geometry(object_pixel_m=object_pixel_size_m))
    with sole_writer(output, COMMAND):
        path = None if model is None else Path(model)
        scan = _kept_scan(session, None, opened)
        _finish(output, scan, load_model(model), settings, path, ['live'], started)


def _kept_scan(session: LiveSession, played: Scan | None, opened: Opening) -> Scan:
    """Return what a session has kept, with all that is known of it."""
    kept = session.scan()
    raw, product = _as_known(kept.raw, played, opened)
    return replace(kept, raw=raw, product=product)


def _finish(
    output: Path,
    scan: Scan,
    archive: ModelArchive,
    settings: tuple[InferenceConfig, PyTorchExecutionConfig],
    model: Path | None,
    words: Sequence[str],
    started: datetime,
) -> tuple[Reconstruction, Sequence[str]]:
    """Reconstruct a scan that is over; return the result and the names of the files that were written."""
    result = run_reconstruction(scan, archive, *settings)
    record = made_by(
        words,
        settings,
        model=model_record(model),
        data=(),
        started=started,
        patterns={'name': scan.raw.source, 'sha256': patterns_sha256(scan.raw.diffraction)},
    )
    return result, write_results(output, scan, result, record)


def _begin(
    options: argparse.Namespace,
    opened: Opening,
    archive: ModelArchive,
    config: InferenceConfig,
    execution: PyTorchExecutionConfig,
) -> tuple[LiveSession, LiveSource, Scan | None]:
    """Return the session, what feeds it, and the scan that is played, if one is."""
    if options.replay is not None:
        scan = with_product(opened.load(options.replay))
        session = open_session(
            scan.raw.probeGuess,
            scan.grid,
            model=archive,
            config=config,
            execution=execution,
            bad_pixels=scan.raw.bad_pixels,
            domain='amplitude',
            source=scan.raw.source,
        )
        return session, ReplaySource(scan, options.rate or math.inf), scan
    if opened.positions is None or opened.probe in (None, ESTIMATE):
        raise ConfigError('Live frames need --positions and --probe FILE.')
    assert opened.probe is not None
    probe = read_probe(opened.probe)
    size = int(probe.modes.shape[-1])
    pixels = opened.geometry.object_pixels(size, size)
    if pixels is None and opened.unit != 'px':
        raise ConfigError(
            'How large a pixel of the object is follows from nothing; give --object-pixel-size-m, or '
            '--energy-eV, --distance-m and --pixel-size-m.'
        )
    height_m, width_m = pixels or (1.0, 1.0)
    modes = probe_of_size(probe, size, (height_m, width_m), (size, size), opened.probe)
    unit = UNITS[opened.unit or 'm']
    axes = opened.mirror or ''
    scale = [unit / (1 if opened.unit == 'px' else side) for side in (height_m, width_m)]
    signed = (-scale[0] if 'y' in axes else scale[0]), (-scale[1] if 'x' in axes else scale[1])
    positions = _positions(opened, signed)
    array, address = NamedArray.parse(options.source), ZmqAddress.parse(options.source, ('center',))
    source: LiveSource
    if address is not None:
        source = ZmqSource(address, size, positions, options.frames)
    elif array is not None:
        source = Hdf5Source(array.path, array.key, positions, options.frames)
    else:
        source = FolderSource(Path(options.source), positions, options.frames)
    session = open_session(modes, model=archive, config=config, execution=execution, source=options.source)
    return session, source, None


def _positions(opened: Opening, scale: tuple[float, float]) -> PositionFollower:
    assert opened.positions is not None
    address = ZmqAddress.parse(opened.positions, ('x', 'y', 'per_frame'))
    if address is not None:
        if opened.order is not None:
            raise ConfigError('--positions-order has no effect on zmq://…, whose fields x and y are named.')
        return PandaPositions(address, scale)
    array, order = NamedArray.parse(opened.positions), opened.order or 'yx'
    if array is not None:
        return GrowingPositions(array.path, array.key, order, scale)
    if not Path(opened.positions).parent.is_dir():
        raise DataFileNotFoundError(f'{opened.positions}: there is no such folder.')
    return TextPositions(Path(opened.positions), order, scale)


def _follow(
    session: LiveSession,
    source: LiveSource,
    options: argparse.Namespace,
    played: Scan | None,
    opened: Opening,
    display: Display,
) -> None:
    """Feed the session until the source ends, nothing comes any more, or a signal asks for the end."""
    last = shown = written = time.monotonic()
    before = at_image = 0
    with stop_on_interrupt() as stopped:
        while not source.ended and not stopped():
            now = time.monotonic()
            if source.feed(session):
                last = now
            elif now - last > options.idle:
                logger.info('No frame came for %g s; the scan has ended.', options.idle)
                break
            elif not session.improve():
                time.sleep(SLEEP_S)
            now = time.monotonic()
            counts = session.counts
            if now - shown > TOLD_S:
                rate = (counts.frames - before) / (now - shown)
                display.show(session, rate, source.behind, due=now - written > options.every)
                shown, before = now, counts.frames
            if now - written > options.every and counts.used > at_image:
                write_image(options.output, session.snapshot(), session, played, opened)
                at_image, written = counts.used, time.monotonic()
        display.show(session, 0.0, source.behind, due=True)
        if stopped():
            logger.info('The scan ends here; once more ends the run without its reconstruction.')


def write_image(
    directory: Path, shot: Snapshot, session: LiveSession, played: Scan | None, opened: Opening
) -> None:
    """Write picture and product of the image so far, together."""
    comments = f'Live image of {shot.counts.used} frames; {shot.quality.sentence}.'
    kept, experiment = session.raw(patterns=False), shot.experiment
    told = np.stack([kept.ycoords, kept.xcoords], axis=1)
    result = Reconstruction(
        object_array=shot.object_array,
        weight=shot.weight,
        grid=shot.grid,
        uncertainty=shot.uncertainty(),
        n_patterns=shot.counts.used,
        comments=comments,
        probe=experiment.probe if experiment.found else None,
        position_shift=experiment.place(told) - told if experiment.found else None,
    )
    _, product = _as_known(kept, played, opened)
    with staged(directory) as staging:
        write_product(staging.path(PRODUCT), result.to_product(product))
        save_figure(result.plot(shot.box), staging.path(PICTURE))


def _as_known(raw: RawData, played: Scan | None, opened: Opening) -> tuple[RawData, ProductData]:
    """Return what was kept with all that is known of it beside its frames and positions, and its product."""
    if played is None:
        known = opened.geometry
        pixels = known.object_pixels(raw.N, raw.N)
        meta = ExportMeta(
            name=Path(raw.source.split('::')[0]).stem,
            detector_distance_m=known.detector_distance_m or 0.0,
            probe_energy_eV=known.photon_energy_eV or 0.0,
            object_pixel_size_m=None if pixels is None else pixels[0],
            probe_pixel_size_m=None if pixels is None else pixels[0],
        )
        return raw, product_of_rawdata(raw, meta)
    all_, kept, product = played.raw, raw.scan_index, played.product
    assert product is not None
    assert kept is not None
    raw = replace(
        raw,
        scan_index=None if all_.scan_index is None else all_.scan_index[kept],
        dataset_index=None if all_.dataset_index is None else all_.dataset_index[kept],
        metadata=all_.metadata,
        counted=all_.counted,
        assumed=all_.assumed,
        path=all_.path,
    )
    if len(kept) == len(all_):
        return raw, product
    weights, photons = product.opr_weights, product.position_photon_counts
    return raw, replace(
        product,
        position_x_m=product.position_x_m[kept],
        position_y_m=product.position_y_m[kept],
        position_indexes=product.position_indexes[kept],
        opr_weights=None if weights is None else weights[kept],
        position_photon_counts=None if photons is None else photons[kept],
    )
