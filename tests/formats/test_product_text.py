"""Products whose texts are not UTF-8, not of variable length or no text at all: read, shown and kept."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from ptycho_engine.formats.product import ProductData, read_product, write_product
from ptycho_engine.formats.product_validation import find_violations
from ptycho_engine.io.text import encode
from ptycho_engine.printable import printable
from tests.conftest import flat_product

TEXTS = ('name', 'comments', 'polarization')
LATIN = '5 µm'.encode('latin-1')
VARIABLE = {'dtype': h5py.string_dtype()}
ASCII = {'dtype': h5py.string_dtype('ascii')}

FORMS = {
    'latin-1': (np.array(LATIN, object), VARIABLE, r'5 \xb5m'),
    'latin-1, called ascii': (np.array(LATIN, object), ASCII, r'5 \xb5m'),
    'latin-1 of fixed length': (np.bytes_(LATIN), {}, r'5 \xb5m'),
    'latin-1, padded': (np.array(LATIN), {'dtype': h5py.string_dtype('utf-8', 20)}, r'5 \xb5m'),
    'utf-16': (np.bytes_('gold'.encode('utf-16')), {}, r'\xff\xfeg\x00o\x00l\x00d'),
    'NUL inside': (np.bytes_(b'a\0b'), {}, r'a\x00b'),
    'control characters': (np.array(b'\x1b]0;x\x07\nb', object), VARIABLE, r'\x1b]0;x\x07\nb'),
    'utf-8': (np.array('5 µm'.encode(), object), VARIABLE, '5 µm'),
    'empty': (np.array(b'', object), VARIABLE, ''),
    'nothing': (h5py.Empty('S4'), {}, ''),
    'a number': (np.int32(5), {}, '5'),
    'one string in an array': (np.array([LATIN], object), VARIABLE, r'5 \xb5m'),
    'several strings': (np.array([b'a', b'b\xb5'], object), VARIABLE, r'a, b\xb5'),
}


NOT_UTF8 = {r'5 \xb5m', r'a\x00b', r'a, b\xb5', r'\xff\xfeg\x00o\x00l\x00d'}


@pytest.fixture
def product() -> ProductData:
    return flat_product()


def with_attribute(path, product, names, value, options) -> None:
    write_product(path, product)
    with h5py.File(path, 'r+') as file:
        for name in names:
            file.attrs.create(name, value, **options)


def stored(path, name) -> tuple[object, ...]:
    """Return type, padding and bytes of an attribute."""
    with h5py.File(path, 'r') as file:
        attribute = h5py.h5a.open(file.id, name if isinstance(name, bytes) else name.encode())
        kind, space = attribute.get_type(), attribute.get_space()
        if space.get_simple_extent_type() == h5py.h5s.NULL:
            return (kind.get_class(), kind.get_size())
        if attribute.dtype.hasobject:
            values = np.empty(attribute.shape, object)
            attribute.read(values)
            return (kind.get_class(), attribute.shape, *values.ravel().tolist())
        raw = np.zeros(attribute.shape, f'V{kind.get_size()}')
        attribute.read(raw, mtype=kind)
        return (kind.get_class(), kind.get_size(), attribute.shape, raw.tobytes())


@pytest.mark.parametrize(('value', 'options', 'shown'), FORMS.values(), ids=FORMS)
def test_product_09_texts_are_written_again_as_they_were(tmp_path, product, value, options, shown):
    before, after = tmp_path / 'before.h5', tmp_path / 'after.h5'
    with_attribute(before, product, TEXTS, value, options)
    read = read_product(before)
    assert [printable(read.name), printable(read.comments)] == [shown, shown]
    write_product(after, read)
    for name in TEXTS:
        assert stored(after, name) == stored(before, name)
    assert encode(read_product(after).comments) == encode(read.comments)


@pytest.mark.parametrize('form', ['latin-1', 'latin-1 of fixed length', 'NUL inside', 'utf-16'])
def test_product_09_a_remark_is_added_behind_the_same_bytes(tmp_path, product, form):
    before, after = tmp_path / 'before.h5', tmp_path / 'after.h5'
    with_attribute(before, product, ['comments'], *FORMS[form][:2])
    read = read_product(before)
    write_product(after, replace(read, comments=f'{read.comments}\nseen, 5 µm'))
    again = read_product(after)
    assert encode(again.comments) == encode(read.comments) + '\nseen, 5 µm'.encode()


def test_product_09_much_text_with_nul_is_written_with_its_escape(tmp_path, product):
    path = tmp_path / 'p.h5'
    write_product(path, replace(product, comments='a\0' + 'b' * 70_000))
    assert read_product(path).comments == 'a\\x00' + 'b' * 70_000


def test_product_07_unknown_attributes_and_items_are_kept_in_any_encoding(tmp_path, product):
    before, after = tmp_path / 'before.h5', tmp_path / 'after.h5'
    write_product(before, product)
    with h5py.File(before, 'r+') as file:
        for number, (value, options, _) in enumerate(FORMS.values()):
            file.attrs.create(f'note {number}', value, **options)
        scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(file.id, b'note\xb5', h5py.h5t.STD_I32LE, scalar)
        # A type that NumPy does not have.
        h5py.h5a.create(file.id, b'time', h5py.h5t.UNIX_D32LE.copy(), scalar)
        file.create_dataset(b'set\xb5', data=np.arange(3))
        file.create_dataset('line\nbreak', data=np.array([b'\xb5'], object), dtype=h5py.string_dtype())
        group = file.create_group(b'group\xb5')
        group.attrs.create('author', *FORMS['latin-1'][:1], **VARIABLE)
        group.create_dataset(b'deep\xb5', data=np.arange(2))
    write_product(after, read_product(before))
    for number in range(len(FORMS)):
        assert stored(after, f'note {number}') == stored(before, f'note {number}')
    with h5py.File(after, 'r') as file:
        assert b'note\xb5' in file.attrs
        assert 'time' in list(file.attrs)
        np.testing.assert_array_equal(file[b'set\xb5'], np.arange(3))
        assert file['line\nbreak'][0] == b'\xb5'
        assert file[b'group\xb5'].attrs['author'] == '5 \udcb5m'
        np.testing.assert_array_equal(file[b'group\xb5'][b'deep\xb5'], np.arange(2))


@pytest.mark.parametrize(('value', 'options', 'shown'), FORMS.values(), ids=FORMS)
def test_product_24_what_is_called_valid_can_be_read_and_written(tmp_path, product, value, options, shown):
    path = tmp_path / 'p.h5'
    with_attribute(path, product, ['comments'], value, options)
    verdict = find_violations(path)
    if not verdict.violations:
        write_product(tmp_path / 'again.h5', read_product(path))
    warned = [
        line for line in verdict.warnings if line.startswith('the attribute comments') and shown in line
    ]
    assert len(warned) == (shown in NOT_UTF8)
