"""The models that need no training (clauses ARC-* of specs/archive.md hold for the packaged one too)."""

import pytest

from ptycho_engine.errors import ArchiveError
from ptycho_engine.formats import packaged
from ptycho_engine.formats.archive import save_archive
from ptycho_engine.formats.packaged import NO_MODEL, PACKAGED_PRIOR, load_model
from tests.formats.hostile_archives import CASES, REASONS, unzip
from tests.formats.test_archive import tiny_model

TAMPERED = (
    *('cut off', 'a member twice', 'a name above', 'packed by bzip2', 'a deep manifest', 'version 3'),
    *('N without end', 'a learning rate NaN', 'a scale NaN', 'a probe with code', 'a probe of 16 TB'),
    *('a history of nulls', 'a weight NaN', 'an infinite weight', 'numbers beyond the end'),
    *('integers for weights', 'a weight too many', 'a header of a million lists'),
)
"""Ways to spoil a model, one or two for each of its parts."""


@pytest.fixture
def tampered(tmp_path, monkeypatch):
    """Return a function that puts other bytes in the place of the packaged prior."""

    def put(data):
        (tmp_path / 'prior.zip').write_bytes(data)
        monkeypatch.setattr(packaged, 'PACKAGED_PRIOR', tmp_path / 'prior.zip')

    return put


def test_without_a_name_it_is_the_prior_and_by_none_physics():
    assert load_model().config.model.architecture == 'prior'
    assert load_model().weights
    assert load_model(NO_MODEL).config.model.architecture == 'physics'
    assert not load_model(NO_MODEL).weights


@pytest.mark.parametrize('case', TAMPERED)
def test_arc_05_a_packaged_prior_that_was_tampered_with_is_refused(tampered, case):
    """The sentence names the remedy and the cause."""
    tampered(CASES[case][1](unzip(PACKAGED_PRIOR.read_bytes())))
    with pytest.raises(ArchiveError) as raised:
        load_model()
    sentence = str(raised.value)
    assert (
        'The learned prior that comes with PtychoPINN cannot be used; install the package again.' in sentence
    )
    assert len(sentence) < 1000
    assert REASONS.get(case, '') in sentence


def test_arc_05_a_flipped_bit_in_the_packaged_prior_is_refused(tampered):
    data = bytearray(PACKAGED_PRIOR.read_bytes())
    data[len(data) // 2] ^= 4
    tampered(bytes(data))
    with pytest.raises(ArchiveError, match='install the package again'):
        load_model()


def test_a_packaged_prior_that_is_missing_or_another_model_is_refused(tampered, tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, 'PACKAGED_PRIOR', tmp_path / 'absent.zip')
    with pytest.raises(ArchiveError, match=r'install the package again.*absent'):
        load_model()
    save_archive(tmp_path / 'network.zip', tiny_model())
    tampered((tmp_path / 'network.zip').read_bytes())
    with pytest.raises(ArchiveError, match=r"install the package again.*architecture 'cnn'"):
        load_model()
