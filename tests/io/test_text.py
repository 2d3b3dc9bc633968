"""Text from files: nothing of it is lost, and nothing of it steers a terminal."""

import pytest

from ptycho_engine.io.text import decode, encode, is_utf8
from ptycho_engine.printable import printable


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'plain',
        '5 µm'.encode(),
        '5 µm'.encode('latin-1'),
        '5 µm'.encode('utf-16'),
        b'a\0b\0',
        bytes(range(256)),
    ],
)
def test_bytes_come_back_as_they_were(data):
    """TEXT-01."""
    assert encode(decode(data)) == data


def test_only_what_is_utf8_counts_as_such():
    assert is_utf8(decode('5 µm'.encode()))
    assert not is_utf8(decode('5 µm'.encode('latin-1')))


def test_a_surrogate_without_a_byte_behind_it_can_be_written():
    """TEXT-01: JSON may hold one."""
    assert encode('a\ud800b\udcb5') == b'a\\ud800b\xb5'


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('gold, 5 µm, 図', 'gold, 5 µm, 図'),
        ('\x1b]0;title\x07', r'\x1b]0;title\x07'),
        ('a\nptychopinn: fake line', r'a\nptychopinn: fake line'),
        ('\u202egpj.exe\u2066', r'\u202egpj.exe\u2066'),
        ('a\x9b31m\u2028b\x85', r'a\x9b31m\u2028b\x85'),
        (decode(b'5 \xb5m'), r'5 \xb5m'),
        ('\ud800', r'\ud800'),
        ('1\u00a0000\u202f000', '1\u00a0000\u202f000'),
        ('tag\U000e0041', r'tag\U000e0041'),
    ],
)
def test_what_steers_a_terminal_is_shown_as_its_escape(text, shown):
    """TEXT-02."""
    assert printable(text) == shown


def test_of_a_long_text_both_ends_are_shown():
    """TEXT-02."""
    shown = printable('begin ' + 'x ' * 10**6 + 'end', limit=20)
    assert len(shown) == 20
    assert shown.startswith('begin')
    assert shown.endswith('end')
    assert '…' in shown
    assert printable('x' * 20, limit=20) == 'x' * 20


def test_a_value_longer_than_any_name_is_cut_and_the_sentence_around_it_is_not():
    """TEXT-02."""
    path = '/'.join(['n' * 255] * 10)
    shown = printable(f'{path}: epochs is {"9" * 5000}; expected a whole number.')
    assert shown.startswith(f'{path}: epochs is 9')
    assert shown.endswith('9; expected a whole number.')
    assert len(shown) < len(path) + 150
