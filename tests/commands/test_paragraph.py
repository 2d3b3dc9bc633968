"""Sentences on the error output: wrapped on a terminal, whole in a file."""

import io
import logging

import pytest

from ptycho_engine.commands import main
from ptycho_engine.commands.paragraph import SentenceFormatter

SENTENCE = 'one sentence that is longer than a narrow terminal, with /a/path/that/has/no-spaces/in-it.npz'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(('stream', 'lines'), [(Terminal, 2), (io.StringIO, 1)])
def test_log_lines_wrap_on_a_terminal_only(monkeypatch, stream, lines):
    monkeypatch.setattr('sys.stderr', stream())
    monkeypatch.setenv('COLUMNS', '70')
    shown = SentenceFormatter('%(message)s').format(
        logging.LogRecord('x', logging.INFO, '', 0, SENTENCE, None, None)
    )
    assert len(shown.splitlines()) == lines
    assert ' '.join(shown.splitlines()) == SENTENCE
    assert '/a/path/that/has/no-spaces/in-it.npz' in shown


def test_a_refused_option_is_wrapped_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr('sys.stderr', stream)
    monkeypatch.setenv('COLUMNS', '60')
    with pytest.raises(SystemExit) as stop:
        main(['train', 'scan', '--output', 'q', '--batchsize', '3'])
    assert stop.value.code == 2
    text = stream.getvalue()
    assert 'did you mean --batch-size?' in ' '.join(text.split())
    assert max(map(len, text.splitlines())) <= 60
