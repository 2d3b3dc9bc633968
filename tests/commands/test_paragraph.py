"""Sentences on the error output: wrapped on a terminal, whole in a file."""

import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ptycho_engine.commands import main
from ptycho_engine.commands.paragraph import SentenceFormatter, beside, complain, say, say_json
from ptycho_engine.commands.table import scores_table
from ptycho_engine.errors import ArchiveNotFoundError, DataKeyError, EngineError
from ptycho_engine.formats.archive import load_archive, save_archive

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


HOSTILE = '\x1b]0;title\x07\nptychopinn: fake line \u202e\udcb5'
SHOWN = r'\x1b]0;title\x07\nptychopinn: fake line \u202e\xb5'


def test_text_02_what_is_put_into_a_log_line_cannot_forge_another():
    record = logging.LogRecord(
        'x', logging.INFO, '', 0, '%s: %d\nof ours, %s', (HOSTILE, 3, Path(HOSTILE)), None
    )
    assert SentenceFormatter('%(message)s').format(record) == f'{SHOWN}: 3\nof ours, {SHOWN}'
    assert record.args[0] == HOSTILE


@pytest.mark.parametrize('kind', [EngineError, DataKeyError, ArchiveNotFoundError])
def test_text_02_an_error_is_one_line_wherever_it_is_shown(kind):
    assert str(kind(f'{HOSTILE} is wrong.')) == f'{SHOWN} is wrong.'


def test_text_02_all_that_a_command_says_is_safe(capsys):
    say(HOSTILE)
    say(*beside('name: ', HOSTILE))
    say(*scores_table([{'name': '\x1b[1m', 'nrmse': 0.1}]))
    complain(HOSTILE)
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [SHOWN, f'name: {SHOWN}']
    assert err == f'{SHOWN}\n'
    assert '\x1b' not in out


@pytest.mark.parametrize('value', [{'name': HOSTILE}, {'name': '5 µm'}, {'name': '\x9b1m'}])
def test_text_02_json_stays_json(value, capsys):
    say_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert out.strip().isprintable()


def test_text_02_a_model_whose_manifest_is_hostile(model, tmp_path, capsys):
    archive = load_archive(model)
    path = tmp_path / 'wts.h5.zip'
    origin = replace(archive.origins[0], name=HOSTILE)
    save_archive(path, replace(archive, backend=HOSTILE, origins=(origin,)))
    assert main(['inspect', str(path)]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert not any(line.startswith('ptychopinn: fake') for line in out.splitlines())
