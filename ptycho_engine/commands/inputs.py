"""What commands read scans from: our own files, CXI, named arrays, and files of beamlines.

INPUT alone is an NPZ file, a Ptychodus directory, a Ptychodus HDF5 file or a CXI file. With ``--positions``
it is the patterns alone, in any file that Ptychodus reads, or an array named as ``FILE::KEY``.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config.choices import PositionOrder, Squaring
from ..diagnostics.probe_search import search_probe, uncornered
from ..errors import ConfigError, DataFileNotFoundError, DataValueError
from ..formats.cxi import is_cxi, read_cxi_object, read_cxi_scan
from ..formats.measurement import (
    Geometry,
    MeasuredPatterns,
    MeasuredPositions,
    MeasuredProbe,
)
from ..formats.named_array import NamedArray, position_columns
from ..formats.product import ProductData, is_hdf5_name, read_product
from ..physics.probe import as_mode_stack
from ..scan.measured import scan_of_measurement, with_probe
from ..scan.product_exchange import ExportMeta, product_of_rawdata
from ..scan.scan import (
    DIFFRACTION_FILE,
    PRODUCT_FILE,
    Scan,
    is_ptychodus_directory,
    load_scan,
    verify_scan,
)
from .arguments.inputs import ESTIMATE, UNITS
from .host import host_readers
from .scan_parts import (
    file_of,
    geometry_of,
    holds,
    parts_of,
    probe_of,
    read_patterns,
    read_probe,
    scan_name,
    with_geometry,
)

__all__ = ['Opening', 'opening']

logger = logging.getLogger('ptychopinn.commands')


FLAGS = {
    'positions': '--positions',
    'probe': '--probe',
    'reader': '--reader',
    'positions_reader': '--positions-reader',
    'unit': '--positions-unit',
    'order': '--positions-order',
    'mirror': '--mirror',
    'photon_energy_eV': '--energy-eV',
    'detector_distance_m': '--distance-m',
    'detector_pixel_width_m': '--pixel-size-m',
    'object_pixel_m': '--object-pixel-size-m',
    'square': '--square',
    'match_first': '--match-first',
    'domain': '--domain',
    'nphotons': '--nphotons',
}
"""Options by the name of what they say, here and in :class:`Geometry`."""


@dataclass(frozen=True)
class Opening:
    """How the command line says that scans are read."""

    positions: str | None = None
    probe: str | None = None
    reader: str | None = None
    positions_reader: str | None = None
    unit: str | None = None
    order: PositionOrder | None = None
    mirror: str | None = None
    geometry: Geometry = field(default_factory=Geometry)
    square: Squaring | None = None
    match_first: bool = False
    verify: bool = False
    domain: str | None = None
    nphotons: float | None = None

    @property
    def of_parts(self) -> bool:
        """Whether INPUT is the patterns alone."""
        return any((self.positions, self.reader, self.positions_reader))

    def is_foreign(self, path: Path) -> bool:
        """Return whether a path is of no kind that :func:`~..scan.scan.load_scan` knows."""
        return self.of_parts or is_cxi(path) or NamedArray.parse(path) is not None

    def require_one(self, paths: list[Path]) -> None:
        """Check that what belongs to one scan was not given for several.

        Raises
        ------
        ConfigError
            If it was.
        """
        for flag, value in (('--positions', self.positions), ('--probe', self.probe)):
            if value not in (None, ESTIMATE) and len(paths) > 1:
                raise ConfigError(f'{flag} belongs to one scan, but {len(paths)} were given; give one.')

    def files(self, path: Path) -> list[Path]:
        """Return the files that belong to a scan, as far as the command line names them."""
        pair = path if path.is_dir() else path.parent
        if is_ptychodus_directory(pair) and (path.is_dir() or path.name in (DIFFRACTION_FILE, PRODUCT_FILE)):
            patterns = [pair / DIFFRACTION_FILE, *([] if self.of_parts else [pair / PRODUCT_FILE])]
        else:
            patterns = [file_of(str(path))]
        named = [self.positions, None if self.probe == ESTIMATE else self.probe]
        return list(dict.fromkeys([*patterns, *(file_of(text) for text in named if text)]))

    @property
    def said(self) -> dict[str, Any]:
        """What the command line says of how scans are read, beside their files, in values that JSON knows."""
        plain = asdict(Opening())
        files = {'positions', 'verify', *(['probe'] if self.probe != ESTIMATE else [])}
        return {
            name: value for name, value in asdict(self).items() if name not in files and value != plain[name]
        }

    def words(self, path: Path) -> str:
        """Return a scan and how it is read, as words of a command line that can be pasted."""
        said = {**vars(self), **vars(self.geometry)}
        options = [
            word
            for name, flag in FLAGS.items()
            if said[name] not in (None, False)
            for word in ([flag] if said[name] is True else [flag, str(said[name])])
        ]
        return shlex.join([str(path), *options])

    def load(self, path: Path) -> Scan:
        """Load a scan.

        Raises
        ------
        EngineError
            With a sentence that says what is wrong.
        """
        scan = self._load(path)
        return replace(scan, raw=replace(scan.raw, words=self.words(path)))

    def _load(self, path: Path) -> Scan:
        """Return the scan of :meth:`load`."""
        if self.is_foreign(path):
            return self._measured(path)
        self._require_idle(path)
        if self.verify:
            verify_scan(path)
        if self.square is not None:
            return self._joined(path, *parts_of(path))
        scan = load_scan(path, domain=self.domain, nphotons=self.nphotons, own_probe=self.probe is None)
        if scan.product is None and self.geometry != Geometry():
            scan = replace(scan, product=self._product_of(scan))
        return self._with_own_probe(scan)

    def _product_of(self, scan: Scan) -> ProductData:
        """Return the product of an NPZ file, with what was said of its experiment."""
        known = self.geometry
        pixels = known.object_pixels(scan.raw.N, scan.raw.N)
        meta = ExportMeta(
            name='' if scan.raw.path is None else scan.raw.path.stem,
            detector_distance_m=known.detector_distance_m or 0.0,
            probe_energy_eV=known.photon_energy_eV or 0.0,
            object_pixel_size_m=None if pixels is None else pixels[0],
            probe_pixel_size_m=None if pixels is None else pixels[0],
        )
        return product_of_rawdata(scan.raw, meta)

    def _require_idle(self, path: Path) -> None:
        """Check that nothing was said that a file of ours says itself."""
        said: dict[str, object] = {
            '--positions-unit': self.unit,
            '--positions-order': self.order,
            '--mirror': self.mirror,
            '--match-first': self.match_first or None,
        }
        if path.suffix.casefold() != '.npz':
            said |= {
                '--energy-eV': self.geometry.photon_energy_eV,
                '--distance-m': self.geometry.detector_distance_m,
                '--pixel-size-m': self.geometry.detector_pixel_width_m,
                '--object-pixel-size-m': self.geometry.object_pixel_m,
            }
        for flag, value in said.items():
            if value is not None:
                raise ConfigError(
                    f'{flag} has no effect on {path}, which is read as a whole scan with all of that in it; '
                    'if it holds patterns alone, give --positions too.'
                )

    def _measured(self, path: Path) -> Scan:
        """Return a scan of patterns and positions in files of any kind."""
        file = file_of(str(path))
        if not file.exists():
            raise DataFileNotFoundError(f'{file}: there is no such file.')
        if is_cxi(path) and not self.of_parts:
            patterns, positions, probe = read_cxi_scan(path)
        elif not self.of_parts:
            raise DataValueError(
                f'{path} is an array of patterns alone; give their positions with --positions FILE, or '
                '--positions FILE::KEY for an array.'
            )
        else:
            patterns = read_patterns(path, self.reader, self._positions_file(path))
            positions, probe, theirs = self._read_positions(path, len(patterns.counts))
            patterns = with_geometry(patterns, theirs)
        return self._joined(path, with_geometry(patterns, self.geometry, first=True), positions, probe)

    def _joined(
        self,
        path: Path,
        patterns: MeasuredPatterns,
        positions: MeasuredPositions,
        probe: MeasuredProbe | None,
    ) -> Scan:
        """Return the scan of patterns and positions, with the probe that was said, found or estimated."""
        axes = self.mirror or ''
        positions = replace(
            positions,
            x=-positions.x if 'x' in axes else positions.x,
            y=-positions.y if 'y' in axes else positions.y,
        )
        if self.probe == ESTIMATE:
            probe = None
        elif self.probe is not None:
            probe = read_probe(self.probe)
            if self.positions is None or file_of(self.probe) != file_of(self.positions):
                # Weights are those of the positions beside them.
                probe = replace(probe, coherent=None)
        scan = scan_of_measurement(
            patterns,
            positions,
            probe,
            name=scan_name(path),
            path=file_of(str(path)),
            square=self.square,
            match_first=self.match_first,
            domain=self.domain,
            nphotons=self.nphotons,
        )
        scan = uncornered(scan)
        return scan if probe is not None else _with_estimated_probe(scan)

    def _positions_file(self, patterns: Path) -> Path:
        return file_of(self.positions or str(patterns))

    def _with_own_probe(self, scan: Scan) -> Scan:
        if self.probe is None:
            return scan
        if self.probe == ESTIMATE:
            return _with_estimated_probe(scan)
        modes = as_mode_stack(read_probe(self.probe).modes, self.probe)
        return with_probe(scan, modes, f'probe of {file_of(self.probe).name}')

    def _read_positions(
        self, patterns: Path, count: int
    ) -> tuple[MeasuredPositions, MeasuredProbe | None, Geometry]:
        """Return positions, with the probe and the geometry of their file if it is a product."""
        array = None if self.positions is None else NamedArray.parse(self.positions)
        path = self._positions_file(patterns)
        if not path.exists():
            raise DataFileNotFoundError(f'{path}: there is no such file, in which positions are looked for.')
        if array is not None:
            x, y = position_columns(array.read(), self.order or 'yx', str(array))
            return self._in_metres(MeasuredPositions(x, y, np.arange(len(x)))), None, Geometry()
        named = self.positions_reader or self.reader
        product = None
        if self.positions_reader is None and is_cxi(path):
            positions = read_cxi_scan(path)[1] if path == patterns else None
            product = read_cxi_object(path) if positions is None else None
            if positions is not None:
                return positions, None, Geometry()
        elif self.positions_reader is None and is_hdf5_name(path) and holds(path, 'probe_position_x_m'):
            product = read_product(path)
        if product is not None:
            product.require_far_field(str(path))
            positions = MeasuredPositions(
                product.position_x_m, product.position_y_m, product.position_indexes
            )
            return positions, probe_of(product), geometry_of(product)
        found = host_readers().read_positions(
            path, named, count, strict=self.positions_reader is not None or self.positions is None
        )
        return self._in_metres(found, path), None, Geometry()

    def _in_metres(self, positions: MeasuredPositions, path: Path | None = None) -> MeasuredPositions:
        """Return positions whose numbers are of the unit that was said."""
        unit = self.unit or 'm'
        if unit == 'm':
            return positions
        if path is not None and path.suffix.casefold() not in ('.csv', '.txt', '.dat'):
            raise ConfigError(f'--positions-unit has no effect on {path}, whose reader knows the unit.')
        factor = UNITS[unit]
        return MeasuredPositions(
            positions.x * factor, positions.y * factor, positions.indexes, 'px' if unit == 'px' else 'm'
        )


def opening(options: argparse.Namespace) -> Opening:
    """Return what a parsed command line says of its scans.

    Raises
    ------
    ConfigError
        If a length or the energy is not positive.
    """
    numbers = {
        name: getattr(options, name)
        for name in ('energy_eV', 'distance_m', 'pixel_size_m', 'object_pixel_size_m')
    }
    for name, value in numbers.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ConfigError(f'--{name.replace("_", "-")} is {value}; expected a positive number.')
    pixel = numbers['pixel_size_m']
    geometry = Geometry(
        numbers['energy_eV'], numbers['distance_m'], pixel, pixel, numbers['object_pixel_size_m']
    )
    # `live` reads counts alone, and has no options for their units.
    said = {name: getattr(options, name) for name in ('domain', 'nphotons') if name in options}
    return Opening(
        positions=options.positions,
        probe=options.probe,
        reader=options.reader,
        positions_reader=options.positions_reader,
        unit=options.positions_unit,
        order=options.positions_order,
        mirror=options.mirror,
        geometry=geometry,
        square=options.square,
        match_first=options.match_first,
        verify=options.verify,
        **said,
    )


def _with_estimated_probe(scan: Scan) -> Scan:
    """Return a scan with the probe that its patterns suggest."""
    found = search_probe(scan)
    return with_probe(scan, found.modes, found.sentence)
