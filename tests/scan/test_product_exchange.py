"""EXCHANGE-* and BUNDLE-*: scans in pixels to product files and back."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine import ExportMeta, RawData, export_product_from_rawdata, import_product_to_rawdata
from ptycho_engine.commands import main
from ptycho_engine.errors import DataValueError, ProductError
from ptycho_engine.formats.product import read_product, write_product
from ptycho_engine.formats.product_validation import find_violations
from ptycho_engine.patterns.stack import Patterns
from ptycho_engine.physics.geometry import place_patches
from ptycho_engine.scan.pretreatment import crop_scan
from ptycho_engine.scan.scan import Scan, load_scan, raw_data_from_counts
from ptycho_engine.simulate import simulate_scan
from tests.conftest import small_scan


@pytest.fixture(scope='module')
def raw() -> RawData:
    return small_scan(points=4, size=32, modes=2)


@pytest.fixture(scope='module')
def legacy_run1084(run1084, tmp_path_factory) -> Path:
    """Run1084 with simulated patterns in the legacy order (N, N, n)."""
    raw = simulate_scan(
        run1084['objectGuess'],
        run1084['probeGuess'],
        run1084['xcoords'],
        run1084['ycoords'],
        photons=1e5,
        rng=np.random.default_rng(0),
    )
    path = tmp_path_factory.mktemp('run1084') / 'run1084.npz'
    np.savez(
        path,
        **{
            **run1084,
            'diffraction': np.ascontiguousarray(raw.diffraction.transpose(1, 2, 0)),
        },
    )
    return path


@pytest.fixture(scope='module', params=[False, True], ids=['bare', 'with patterns'])
def converted(request, legacy_run1084) -> tuple[Path, Path, bool]:
    product = legacy_run1084.with_name(f'product-{request.param}.h5')
    options = ['--include-diffraction'] if request.param else []
    assert (
        main(
            [
                *('convert-product', '--quiet', '--input-npz', str(legacy_run1084)),
                *('--output-product', str(product), '--detector-distance-m', '2.5'),
                *('--probe-energy-eV', '8800', *options),
            ]
        )
        == 0
    )
    return legacy_run1084, product, request.param


def test_exchange_05_run1084_comes_back(converted):
    source, product, with_patterns = converted
    given, back = RawData.from_file(source), import_product_to_rawdata(product)
    np.testing.assert_allclose(back.xcoords, given.xcoords, rtol=0, atol=1e-6)
    np.testing.assert_allclose(back.ycoords, given.ycoords, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(back.probeGuess, given.probeGuess)
    np.testing.assert_array_equal(back.objectGuess, given.objectGuess)
    assert back.scan_index is not None
    assert back.has_patterns == with_patterns
    if with_patterns:
        np.testing.assert_array_equal(back.diffraction, given.diffraction)
        assert back.original_axis_order == given.original_axis_order == 'H,W,n'
    assert find_violations(product).violations == ()


@pytest.mark.ptychodus
def test_exchange_02_the_scan_falls_on_its_object_in_ptychodus(converted):
    io = pytest.importorskip('ptychodus.plugins.h5_product_file')
    source, path, _ = converted
    given, product = RawData.from_file(source), io.H5ProductFileIO().read(path)
    geometry, probe = product.object_.get_geometry(), product.probes.get_geometry()
    assert len(product.probe_positions) == len(given)
    for index, position in enumerate(product.probe_positions):
        assert position.index == index
        on_object = geometry.map_coordinates_probe_to_object(position)
        bounds = probe.resolve_patch_bounds(on_object.x_px, on_object.y_px)
        assert 0 <= bounds.x_slice.start < bounds.x_slice.stop <= geometry.width_px
        assert 0 <= bounds.y_slice.start < bounds.y_slice.stop <= geometry.height_px
        # Ptychodus splits off the whole pixel by truncation, the engine by rounding.
        split = (bounds.y_slice.start + bounds.dy, bounds.x_slice.start + bounds.dx)
        np.testing.assert_allclose(
            split,
            (given.ycoords[index] - (given.N - 1) / 2, given.xcoords[index] - (given.N - 1) / 2),
            atol=1e-6,
        )
        if index == 0:
            patch = product.object_.get_layer(0)[bounds.y_slice, bounds.x_slice]
            with np.load(source) as arrays:
                row = int(arrays['ycoords'][0] - (given.N - 1) / 2)
                column = int(arrays['xcoords'][0] - (given.N - 1) / 2)
                expected = arrays['objectGuess'][row : row + given.N, column : column + given.N]
            np.testing.assert_array_equal(patch, expected.astype(np.complex64))
    assert product.metadata.photon_energy_eV == 8800
    assert product.metadata.detector_distance_m == 2.5


def test_exchange_01_defaults_and_their_remark(raw, tmp_path):
    export_product_from_rawdata(raw, tmp_path / 'p.h5', ExportMeta(comments='mine'))
    product = read_product(tmp_path / 'p.h5')
    assert product.object_pixel_width_m == product.object_pixel_height_m == 5.0e-8
    assert product.probe_pixel_width_m == product.probe_pixel_height_m == 1.25e-7
    assert (product.object_center_x_m, product.object_center_y_m) == (0, 0)
    assert product.comments == 'mine\nestimated pixel sizes'
    assert product.detector_distance_m == product.photon_energy_eV == product.exposure_time_s == 0
    np.testing.assert_array_equal(product.position_indexes, np.arange(len(raw)))
    with h5py.File(tmp_path / 'p.h5') as file:
        assert file['loss_epochs'].shape == file['loss_values'].shape == (0,)


@pytest.mark.parametrize(
    ('known', 'estimated'),
    [
        ({'object_pixel_size_m': 2e-8}, True),
        ({'probe_pixel_size_m': 2e-8}, True),
        ({'object_pixel_size_m': 2e-8, 'probe_pixel_size_m': 2e-8}, False),
    ],
)
def test_exchange_01_only_what_is_estimated_is_said_to_be(raw, tmp_path, known, estimated):
    export_product_from_rawdata(raw, tmp_path / 'p.h5', ExportMeta(**known))
    product = read_product(tmp_path / 'p.h5')
    assert ('estimated pixel sizes' in product.comments) == estimated
    # What was estimated remains an estimate on a second journey.
    again = import_product_to_rawdata(tmp_path / 'p.h5')
    export_product_from_rawdata(again, tmp_path / 'q.h5')
    second = read_product(tmp_path / 'q.h5')
    assert second.comments == product.comments
    assert second.object_pixel_width_m == product.object_pixel_width_m
    assert second.probe_pixel_width_m == product.probe_pixel_width_m


def test_exchange_01_every_field_arrives(raw, tmp_path):
    meta = ExportMeta(
        name='gold',
        comments='c',
        detector_distance_m=2.0,
        probe_energy_eV=9e3,
        exposure_time_s=0.1,
        probe_photon_count=1e6,
        mass_attenuation_m2_kg=0.3,
        tomography_angle_deg=45.0,
        object_pixel_size_m=1e-8,
        probe_pixel_size_m=1e-8,
        object_center_x_m=3e-6,
        object_center_y_m=-4e-6,
    )
    export_product_from_rawdata(raw, tmp_path / 'p.h5', meta, compression='gzip')
    product = read_product(tmp_path / 'p.h5')
    assert (product.name, product.comments) == ('gold', 'c')
    assert (product.detector_distance_m, product.photon_energy_eV) == (2.0, 9e3)
    assert (product.exposure_time_s, product.probe_photon_count) == (0.1, 1e6)
    assert (product.mass_attenuation_m2_per_kg, product.tomography_angle_deg) == (0.3, 45.0)
    assert (product.object_center_x_m, product.object_center_y_m) == (3e-6, -4e-6)
    # The centre moves the world, not the pixels; a second export keeps it.
    back = import_product_to_rawdata(tmp_path / 'p.h5')
    np.testing.assert_allclose(back.xcoords, raw.xcoords, rtol=0, atol=1e-6)
    export_product_from_rawdata(back, tmp_path / 'q.h5')
    assert read_product(tmp_path / 'q.h5').object_center_x_m == 3e-6


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('object_pixel_size_m', 0.0),
        ('probe_pixel_size_m', -1e-8),
        ('probe_energy_eV', float('nan')),
        ('probe_energy_eV', -8e3),
        ('detector_distance_m', -1.0),
        ('exposure_time_s', -1.0),
        ('probe_photon_count', -1.0),
        ('mass_attenuation_m2_kg', -1.0),
        ('tomography_angle_deg', float('inf')),
    ],
)
def test_exchange_01_impossible_numbers_are_refused(field, value):
    with pytest.raises(ProductError, match=f'{field} is {value}; expected a'):
        ExportMeta(**{field: value})


def test_exchange_01_impossible_numbers_of_the_scan_are_refused(raw, tmp_path):
    for field in ('object_pixel_size_m', 'probe_pixel_size_m'):
        with pytest.raises(ProductError, match=f'_metadata says {field} = -1; expected a positive number'):
            export_product_from_rawdata(replace(raw, metadata={field: -1}), tmp_path / 'p.h5')
    assert not (tmp_path / 'p.h5').exists()


def test_exchange_01_numbers_at_their_limits_break_no_rule(raw, tmp_path):
    meta = ExportMeta(tomography_angle_deg=-30.0, object_center_x_m=-1e-6, object_center_y_m=-1e-6)
    export_product_from_rawdata(raw, tmp_path / 'p.h5', meta)
    assert find_violations(tmp_path / 'p.h5').violations == ()


def test_exchange_03_a_scan_without_object_gets_a_flat_one(raw, tmp_path):
    export_product_from_rawdata(replace(raw, objectGuess=None), tmp_path / 'p.h5', include_diffraction=True)
    product = read_product(tmp_path / 'p.h5')
    assert np.ptp(np.abs(product.object_array)) == 0
    back = import_product_to_rawdata(tmp_path / 'p.h5')
    corner = place_patches(back.xcoords, back.ycoords, back.N).corner
    assert (corner.min(axis=0) == 0).all()
    assert (corner.max(axis=0) + back.N == product.object_array.shape[-2:]).all()
    np.testing.assert_allclose(np.diff(back.xcoords), np.diff(raw.xcoords), atol=1e-6)
    assert find_violations(tmp_path / 'p.h5').violations == ()


def test_exchange_07_a_scan_without_patterns_says_so_where_they_are_needed(raw, tmp_path):
    several = replace(raw, scan_index=np.arange(len(raw)) % 2)
    export_product_from_rawdata(several, tmp_path / 'p.h5')
    back = import_product_to_rawdata(tmp_path / 'p.h5')
    assert back.diffraction.shape == (0, raw.N, raw.N)
    assert len(back) == len(raw)
    assert back.N == raw.N
    np.testing.assert_array_equal(back.scan_index, several.scan_index)
    half = back.select(np.arange(3))
    assert (len(half), half.has_patterns) == (3, False)
    for use in (
        lambda: Scan.from_raw(back),
        lambda: back.to_file(tmp_path / 'x.npz'),
        lambda: export_product_from_rawdata(back, tmp_path / 'y.h5', include_diffraction=True),
    ):
        with pytest.raises(DataValueError, match=r'p\.h5: .* no diffraction patterns; give'):
            use()
    assert not (tmp_path / 'y.h5').exists()


def test_bundle_01_and_04_layout(raw, tmp_path):
    bad = np.zeros((32, 32), bool)
    bad[3, 4] = True
    export_product_from_rawdata(replace(raw, bad_pixels=bad), tmp_path / 'p.h5', include_diffraction=True)
    with h5py.File(tmp_path / 'p.h5') as file:
        group = file['raw_data']
        assert group['diffraction'].attrs['axis_canonical'] == 'NHW'
        assert group['diffraction'].attrs['original_axis_order'] == 'NHW'
        np.testing.assert_array_equal(group['diffraction'], np.where(bad, 0, raw.diffraction))
        np.testing.assert_array_equal(group['xcoords'], raw.xcoords)
        np.testing.assert_array_equal(group['ycoords'], raw.ycoords)
        np.testing.assert_array_equal(group['scan_index'], np.zeros(len(raw)))
        assert group['probeGuess'] == file['probe']
        assert group['objectGuess'] == file['object']
    back = import_product_to_rawdata(tmp_path / 'p.h5')
    np.testing.assert_array_equal(back.bad_pixels, bad)
    np.testing.assert_array_equal(back.probeGuess, raw.probeGuess)
    assert back.metadata['simulated'] is True
    assert Scan.from_raw(back).grid.shape == raw.objectGuess.shape


@pytest.mark.parametrize('large', [False, True])
def test_bundle_01_what_bad_pixels_hold_does_not_count(raw, tmp_path, monkeypatch, large):
    bad = np.zeros((32, 32), bool)
    bad[3, 4:6] = True
    path = tmp_path / 'p.h5'
    export_product_from_rawdata(replace(raw, bad_pixels=bad), path, include_diffraction=True)
    with h5py.File(path, 'a') as file:
        file['raw_data/diffraction'][:, 3, 4] = np.nan
        file['raw_data/diffraction'][:, 3, 5] = -1
    if large:
        monkeypatch.setattr(Patterns, 'in_memory_if_small', lambda patterns: patterns)
    back = import_product_to_rawdata(path)
    assert isinstance(back.diffraction, Patterns) == large
    np.testing.assert_array_equal(back.diffraction[:], np.where(bad, 0, raw.diffraction))
    with h5py.File(path, 'a') as file:
        del file['raw_data/bad_pixels']
        file['raw_data/bad_pixels'] = np.zeros((4, 4), bool)
    with pytest.raises(DataValueError, match=r'p\.h5: /raw_data: bad_pixels has shape \(4, 4\)'):
        import_product_to_rawdata(path)


def test_bundle_02_survives_when_the_product_is_written_again(raw, tmp_path):
    export_product_from_rawdata(raw, tmp_path / 'p.h5', include_diffraction=True)
    product = read_product(tmp_path / 'p.h5')
    write_product(tmp_path / 'p.h5', replace(product, object_array=product.object_array * 2))
    with h5py.File(tmp_path / 'p.h5') as file:
        assert file['raw_data/objectGuess'] == file['object']
        assert file['raw_data/probeGuess'] == file['probe']
        assert file['raw_data/diffraction'].compression == 'gzip'
    back = import_product_to_rawdata(tmp_path / 'p.h5')
    np.testing.assert_array_equal(back.diffraction, raw.diffraction)
    np.testing.assert_array_equal(back.objectGuess, raw.objectGuess * 2)


def test_exchange_04_a_broken_object_of_a_product_is_left_out(raw, tmp_path, caplog):
    path = tmp_path / 'p.h5'
    export_product_from_rawdata(raw, path, include_diffraction=True)
    product = read_product(path)
    broken = product.object_array.copy()
    broken[0, 3, 4] = np.nan
    write_product(path, replace(product, object_array=broken))
    scan = load_scan(path)
    assert scan.raw.objectGuess is None
    assert 'p.h5: the object holds NaN or infinite values and is left out' in caplog.text
    assert scan.grid == product.grid
    joined = raw_data_from_counts(np.square(raw.diffraction), None, scan.product, 'window')
    assert joined.objectGuess is None
    # What is made of it lies on the product's grid as before.
    whole, cropped = (crop_scan(item, 16) for item in (replace(scan, raw=raw, product=product), scan))
    assert cropped.product is not None
    assert cropped.grid == whole.grid
    np.testing.assert_allclose(cropped.raw.xcoords, whole.raw.xcoords)


def test_convert_product_refuses_a_broken_object(raw, tmp_path, capsys):
    path, out = tmp_path / 'run.npz', tmp_path / 'p.h5'
    arrays = {name: getattr(raw, name) for name in ('diffraction', 'probeGuess', 'xcoords', 'ycoords')}
    np.savez(path, **arrays, objectGuess=np.full_like(raw.objectGuess, np.inf))
    assert main(['convert-product', '--input-npz', str(path), '--output-product', str(out), '--quiet']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'run.npz: objectGuess holds NaN or infinite values' in line
    assert not out.exists()


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda g: g.__delitem__('diffraction'), 'lacks the dataset diffraction'),
        (lambda g: g['diffraction'].attrs.__setitem__('axis_canonical', 'HNW'), 'axis_canonical'),
    ],
)
def test_bundle_03_faults_are_named(raw, tmp_path, spoil, message):
    export_product_from_rawdata(raw, tmp_path / 'p.h5', include_diffraction=True)
    with h5py.File(tmp_path / 'p.h5', 'a') as file:
        spoil(file['raw_data'])
    with pytest.raises(ProductError, match=message):
        import_product_to_rawdata(tmp_path / 'p.h5')


def test_convert_product_ends_mistakes_in_one_sentence(raw, tmp_path, capsys):
    raw.to_file(tmp_path / 'run.npz')
    base = ['convert-product', '--input-npz', str(tmp_path / 'run.npz'), '--output-product']
    out = tmp_path / 'p.h5'
    out.write_text('what was there before')
    for arguments, words in (
        ([*base, str(out), '--object-pixel-size-m', '0'], 'object_pixel_size_m is 0.0; expected a positive'),
        (['convert-product', '--input-npz', 'none.npz', '--output-product', str(out)], 'no such file'),
    ):
        assert main([*arguments, '--quiet']) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert out.read_text() == 'what was there before'
    assert main([*base, str(out)]) == 0
    printed = capsys.readouterr()
    assert f'{len(raw)} positions' in printed.out
    assert 'pass --detector-distance-m and --probe-energy-eV' in printed.err
    assert read_product(out).name == 'run'


def written_by_the_original(path: Path, raw: RawData, original_order: str | None = 'NHW') -> None:
    """Write a product as the original PtychoPINN does, in its own arrangement."""
    pixel = 5e-8
    with h5py.File(path, 'w') as file:
        for name in (
            'detector_object_distance_m',
            'probe_energy_eV',
            'probe_photon_count',
            'exposure_time_s',
        ):
            file.attrs[name] = 0.0
        file.attrs.update(name='', comments='', mass_attenuation_m2_kg=0.0, tomography_angle_deg=0.0)
        file['probe_position_indexes'] = np.arange(len(raw))
        file['probe_position_x_m'], file['probe_position_y_m'] = raw.xcoords * pixel, raw.ycoords * pixel
        for name, array, size in (('probe', raw.probeGuess, 1.25e-7), ('object', raw.objectGuess, pixel)):
            dataset = file.create_dataset(name, data=array)
            dataset.attrs.update(pixel_width_m=size, pixel_height_m=size)
        file['object'].attrs.update(center_x_m=0.0, center_y_m=0.0)
        for name in ('object_layer_spacing_m', 'loss_values', 'loss_epochs'):
            file[name] = np.empty(0)
        group = file.create_group('raw_data')
        group['diffraction'] = raw.diffraction * np.float32(0.01)
        group['diffraction'].attrs['axis_canonical'] = 'NHW'
        if original_order is not None:
            group['diffraction'].attrs['original_axis_order'] = original_order
        group['xcoords'], group['ycoords'] = raw.xcoords, raw.ycoords
        group['scan_index'] = np.arange(len(raw))
        group['probeGuess'], group['objectGuess'] = file['probe'], file['object']


@pytest.mark.parametrize('original_order', ['NHW', 'HNW', None])
def test_exchange_06_a_product_of_the_original_lands_on_its_object(tmp_path, raw, original_order, caplog):
    caplog.set_level('INFO')
    written_by_the_original(tmp_path / 'p.h5', raw, original_order)
    scan = load_scan(tmp_path / 'p.h5')
    np.testing.assert_allclose(scan.raw.xcoords, raw.xcoords, atol=1e-6)
    np.testing.assert_allclose(scan.raw.ycoords, raw.ycoords, atol=1e-6)
    np.testing.assert_allclose(scan.raw.diffraction, raw.diffraction, rtol=1e-3)
    assert 'positions count from the first pixel of the object' in caplog.text
    # The product that results are written into says so too, as Ptychodus counts.
    np.testing.assert_allclose(scan.product.positions_px(), (raw.xcoords, raw.ycoords), atol=1e-6)
    back = import_product_to_rawdata(tmp_path / 'p.h5')
    np.testing.assert_allclose(back.xcoords, raw.xcoords, atol=1e-6)


def test_exchange_01_pixel_sizes_that_the_original_states(tmp_path, raw):
    stated = replace(
        raw,
        metadata={
            'physics_parameters': {'object_pixel_width_m': 2e-8, 'nphotons': 1e5},
            'additional_parameters': {'object_center_x_m': 1e-6, 'probe_pixel_size_m': 2e-8},
        },
    )
    export_product_from_rawdata(stated, tmp_path / 'p.h5')
    product = read_product(tmp_path / 'p.h5')
    assert product.object_pixel_width_m == product.probe_pixel_width_m == 2e-8
    assert product.object_center_x_m == 1e-6


def test_dir_08_the_near_field_is_refused(tmp_path, raw):
    export_product_from_rawdata(raw, tmp_path / 'p.h5', include_diffraction=True)
    with h5py.File(tmp_path / 'p.h5', 'r+') as file:
        file.attrs['far_field'] = False
    with pytest.raises(DataValueError, match=r'p\.h5: far_field of the product is False, but the near field'):
        load_scan(tmp_path / 'p.h5')


def test_exchange_01_pixel_sizes_by_the_names_of_the_original():
    meta = ExportMeta(object_pixel_width_m=2e-8, object_pixel_height_m=2e-8, probe_pixel_width_m=3e-8)
    assert meta == ExportMeta(object_pixel_size_m=2e-8, probe_pixel_size_m=3e-8)
    with pytest.raises(ProductError, match='2e-08 and 3e-08 m wide and high; only square pixels'):
        ExportMeta(object_pixel_width_m=2e-8, object_pixel_height_m=3e-8)
