"""The JSON Schema of settings files says what reading them says, and the flags can be completed."""

import json
import tomllib

import jsonschema
import pytest

from ptycho_engine.commands import build_parser, main
from ptycho_engine.config.files import SECTIONS, read_sections
from ptycho_engine.config.schema import settings_schema
from ptycho_engine.errors import ConfigError


@pytest.fixture
def schema(capsys):
    """Return what the command prints."""
    assert main(['settings', '--json-schema']) == 0
    return json.loads(capsys.readouterr().out)


def test_cfg_22_the_printed_settings_are_a_settings_file(schema, capsys, tmp_path):
    jsonschema.Draft202012Validator.check_schema(schema)
    assert main(['settings']) == 0
    text = capsys.readouterr().out
    (tmp_path / 'all.toml').write_text(text)
    jsonschema.validate(tomllib.loads(text), schema)
    assert read_sections(tmp_path / 'all.toml').keys() == SECTIONS.keys()


@pytest.mark.parametrize(
    ('section', 'name', 'value'),
    [
        ('training', 'nepochs', 0),
        ('training', 'momentum', 1),
        ('training', 'optimizer', 'adamm'),
        ('training', 'n_groups', 1.5),
        ('model', 'gridsize', 6),
        ('inference', 'calibrate', 3),
        ('inference', 'refine_probe', 'perhaps'),
        ('execution', 'no_such', 1),
    ],
)
def test_cfg_22_what_the_schema_refuses_a_run_refuses(section, name, value, tmp_path):
    file = {section: {name: value}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(file, settings_schema())
    path = tmp_path / 'wrong.json'
    path.write_text(json.dumps(file))

    def read():
        for which, values in read_sections(path).items():
            SECTIONS[which](**values)

    with pytest.raises(ConfigError, match=name):
        read()


@pytest.mark.parametrize('value', ['none', None, 64])
def test_cfg_22_none_is_a_word_too(value):
    jsonschema.validate({'training': {'n_groups': value}}, settings_schema())


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'tcsh'])
def test_the_flags_of_every_command_are_completed(shell):
    shtab = pytest.importorskip('shtab')
    script = shtab.complete(build_parser(), shell=shell)
    for word in ('reconstruct', 'settings', 'json-schema', 'calibrate'):
        assert word in script
