from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptycho_engine.errors import DataFileNotFoundError, ProductError
from ptycho_engine.files.product import ProductData, read_product, write_product

number = st.floats(-1e3, 1e3, allow_nan=False)
length = st.floats(1e-10, 1e-3)


def complex_array(*shape):
    return hnp.arrays(np.complex64, shape, elements=st.complex_numbers(max_magnitude=9, width=64))


@st.composite
def products(draw) -> ProductData:
    n, layers = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    coherent, incoherent = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    n_losses = draw(st.integers(0, 4))
    return ProductData(
        name=draw(st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=9)),
        comments='two\nlines',
        detector_distance_m=draw(number),
        photon_energy_eV=draw(number),
        object_array=draw(complex_array(layers, 6, 7)),
        object_pixel_width_m=draw(length),
        object_pixel_height_m=draw(length),
        object_center_x_m=draw(number),
        object_center_y_m=draw(number),
        object_layer_spacing_m=draw(hnp.arrays(np.float64, (layers - 1,), elements=number)),
        probe=draw(complex_array(coherent, incoherent, 4, 4)),
        probe_pixel_width_m=draw(length),
        probe_pixel_height_m=draw(length),
        opr_weights=draw(st.none() | hnp.arrays(np.float64, (n, coherent), elements=number)),
        position_photon_counts=draw(st.none() | hnp.arrays(np.float64, n, elements=number)),
        position_indexes=np.arange(n),
        position_x_m=draw(hnp.arrays(np.float64, n, elements=number)),
        position_y_m=draw(hnp.arrays(np.float64, n, elements=number)),
        probe_photon_count=draw(number),
        exposure_time_s=draw(number),
        mass_attenuation_m2_per_kg=draw(number),
        tomography_angle_deg=draw(number),
        focus_object_distance_m=draw(number),
        tilt_angle_deg=draw(number),
        far_field=draw(st.booleans()),
        polarization=draw(st.sampled_from([None, 'left_circular'])),
        loss_epochs=np.arange(n_losses),
        loss_values=np.linspace(1, 2, n_losses),
    )


def assert_equal(a: ProductData, b: ProductData):
    for item in fields(ProductData):
        x, y = getattr(a, item.name), getattr(b, item.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, item.name
            np.testing.assert_array_equal(x, y, err_msg=item.name)
        else:
            assert x == y, item.name


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(product=products())
def test_product_05_any_product_round_trips_to_the_bit(tmp_path, product):
    write_product(tmp_path / 'p.h5', product)
    assert_equal(product, read_product(tmp_path / 'p.h5'))
    assert [p.name for p in tmp_path.iterdir()] == ['p.h5']


@pytest.fixture
def product() -> ProductData:
    return ProductData(
        name='x',
        comments='',
        detector_distance_m=2.0,
        photon_energy_eV=1e4,
        object_array=np.ones((21, 30), np.complex64),
        object_pixel_width_m=5e-8,
        object_pixel_height_m=4e-8,
        object_center_x_m=1e-6,
        object_center_y_m=-2e-6,
        probe=np.ones((8, 8), np.complex64),
        position_x_m=np.array([0.0, 1e-6]),
        position_y_m=np.array([-2e-6, 0.0]),
        position_indexes=np.array([0, 1]),
        mass_attenuation_m2_per_kg=0.25,
        loss_epochs=np.array([0]),
        loss_values=np.array([1.0]),
        opr_weights=np.ones((2, 1)),
    )


def test_product_03_positions_are_relative_to_the_centre(product):
    x, y = product.positions_px()
    np.testing.assert_allclose(x, [14.5 - 20, 14.5], atol=1e-9)
    np.testing.assert_allclose(y, [10, 10 + 50], atol=1e-9)
    x_m, y_m = ProductData.positions_m(x, y, product.grid)
    np.testing.assert_allclose(x_m, product.position_x_m, atol=1e-18)
    np.testing.assert_allclose(y_m, product.position_y_m, atol=1e-18)


def test_product_02_both_names_are_written(tmp_path, product):
    write_product(tmp_path / 'p.h5', product)
    with h5py.File(tmp_path / 'p.h5') as file:
        assert file.attrs['photon_energy_eV'] == file.attrs['probe_energy_eV'] == 1e4
        assert file.attrs['mass_attenuation_m2_per_kg'] == file.attrs['mass_attenuation_m2_kg']
        assert 'opr_weights' in file
        assert 'opr_weights' in file['probe'].attrs
        assert len(file['object_layer_spacing_m']) == 0


def test_product_01_old_names_are_read(tmp_path, product):
    path = tmp_path / 'p.h5'
    write_product(path, product)
    with h5py.File(path, 'a') as file:
        for name in ('photon_energy_eV', 'mass_attenuation_m2_per_kg', 'tilt_angle_deg', 'far_field'):
            del file.attrs[name]
        del file['opr_weights']
        file['costs'] = file['loss_values'][()]
        del file['loss_values'], file['loss_epochs']
        file['object_layer_distance_m'] = np.array([np.inf])
        del file['object_layer_spacing_m']
        probe = file['probe'][0, 0]
        weights = file['probe'].attrs['opr_weights']
        del file['probe']
        file['probe'] = probe
        file['probe'].attrs['opr_weights'] = weights
    read = read_product(path)
    expected = replace(product, probe_pixel_width_m=None, probe_pixel_height_m=None)
    assert_equal(read, expected)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda f: f.attrs.__delitem__('detector_object_distance_m'), 'detector_object_distance_m'),
        (lambda f: f['object'].attrs.__delitem__('center_x_m'), 'center_x_m'),
        (lambda f: f.__delitem__('probe'), "lacks the dataset 'probe'"),
        (lambda f: f.__delitem__('probe_position_y_m'), 'probe_position_y_m'),
        (lambda f: f['object'].attrs.__setitem__('pixel_width_m', -1.0), 'positive'),
        (lambda f: f['object'].attrs.__setitem__('pixel_width_m', np.nan), 'nan'),
    ],
)
def test_product_04_what_is_missing_is_named(tmp_path, product, spoil, message):
    path = tmp_path / 'p.h5'
    write_product(path, product)
    with h5py.File(path, 'a') as file:
        for name in ('photon_energy_eV',):
            assert name in file.attrs
        spoil(file)
    with pytest.raises(ProductError, match=message):
        read_product(path)


def test_product_04_files_that_are_no_product(tmp_path, product):
    with pytest.raises(DataFileNotFoundError):
        read_product(tmp_path / 'none.h5')
    (tmp_path / 'text.h5').write_text('hello')
    with pytest.raises(ProductError, match='not a readable HDF5'):
        read_product(tmp_path / 'text.h5')
    with pytest.raises(ProductError, match='expected complex'):
        replace(product, object_array=np.ones((3, 3)))
    with pytest.raises(ProductError, match='must match'):
        replace(product, position_x_m=np.zeros(3))


def test_product_05_a_failed_write_leaves_the_old_file(tmp_path, product):
    path = tmp_path / 'p.h5'
    write_product(path, product)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_product(path, replace(product, comments=object()))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ['p.h5']
