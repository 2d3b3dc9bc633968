"""A settings file is followed to the letter, or batch mode refuses it (API-17, API-18, API-56)."""

from __future__ import annotations

import base64
import configparser
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('ptychodus.api.settings')

from batch_table import release_scan
from conftest import HERE, PATIENCE_S, Finished
from ptychodus.api.settings import SettingsRegistry
from ptychodus.model.processing import ProcessingAlgorithmParameter
from releases import SUPPORTED, environment_of, unpack

from ptycho_engine.errors import ConfigError
from ptychopinn_ptychodus.library import PtychoPINNLibrary
from ptychopinn_ptychodus.settings_file import asked_algorithm, read_settings
from ptychopinn_ptychodus.settings_gate import SettingsGate

pytestmark = pytest.mark.ptychodus

GOOD = """\
# A scan of the north corner, 12 µm wide
[Processing]
Algorithm = PtychoPINN_PINN

[Detector]
PixelWidthInMeters = 7.5e-05
PixelHeightInMeters = 7.5e-05

[Diffraction]
CropEnabled = False
CropWidthInPixels = 64

[PtychoPINNModel]
GridSize = 1
NumFiltersScale = 1
ObjectBig = True

[PtychoPINNTraining]
NumEpochs = 3
BatchSize = 8
NLLWeight = 0.5

[PtychoPINNInference]
NumNearestNeighbors = 6

[PtychoPINNEngine]
EarlyStopPatience = 5
LearningRate = 0.001
Backend = pytorch
RefineProbe = yes
"""


def also(text: str) -> str:
    return f'{GOOD}\n{text}\n'


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


REFUSED: dict[str, tuple[str | bytes, list[str]]] = {
    'unknown key': (
        changed('NumEpochs', 'Epochs'),
        ['Setting PtychoPINNTraining.Epochs', "'3'", 'NumEpochs'],
    ),
    'unknown section': (
        changed('[PtychoPINNTraining]', '[PtychoPINN]'),
        ['[PtychoPINN]', 'NumEpochs', '[PtychoPINNTraining]'],
    ),
    'section without settings of ours': (
        also('[PtychoPINNModels]\nFoo = 1'),
        ['[PtychoPINNModels]', 'nearest is [PtychoPINNModel]'],
    ),
    'section in small letters': (changed('[Processing]', '[processing]'), ['[processing]', '[Processing]']),
    'section of Ptychodus, one letter off': (changed('[Detector]', '[Detectoe]'), ['nearest is [Detector]']),
    'key of Ptychodus, one letter off': (
        changed('CropEnabled', 'CropEnablde'[:-2] + 'd'),
        ['Diffraction.CropEnabld', 'CropEnabled'],
    ),
    'key in another section': (
        changed('EarlyStopPatience = 5', 'NumEpochs = 7'),
        ['PtychoPINNEngine.NumEpochs', '[PtychoPINNTraining]'],
    ),
    'file of version 0.1': (
        also('Architecture = unrolled\nPhysicsSteps = 64\nUnrolledSteps = 4\nSimulatedEpochs = 20'),
        ['delete the lines of Architecture, PhysicsSteps, UnrolledSteps, SimulatedEpochs, ', 'learned prior'],
    ),
    'a setting of version 0.1': (
        also('unrolledsteps = 4'),
        ['[PtychoPINNEngine]', 'version 0.1', 'delete the lines of UnrolledSteps, and'],
    ),
    'network of version 0.1': (
        also('Architecture = unrolled'),
        ['PtychoPINNEngine.Architecture', "'unrolled'", "leave it at 'prior'"],
    ),
    'misspelt algorithm key': (
        changed('Algorithm', 'Algoritm'),
        ['Setting Processing.Algoritm', 'nearest is Algorithm'],
    ),
    'unknown algorithm': (changed('PtychoPINN_PINN', 'PtychoPINN_PIN'), ["'PtychoPINN_PIN'"]),
    'no algorithm': (changed('PtychoPINN_PINN', ''), ['Processing.Algorithm is', 'PtychoPINN_PINN']),
    'word for a number': (
        changed('GridSize = 1', 'GridSize = two'),
        ['PtychoPINNModel.GridSize', "'two'", 'a whole number from 1 to 5'],
    ),
    'fraction for a whole number': (
        changed('NumEpochs = 3', 'NumEpochs = 3.5'),
        ['PtychoPINNTraining.NumEpochs', "'3.5'", 'a whole number from 1 up'],
    ),
    'comment behind a number': (changed('BatchSize = 8', 'BatchSize = 8 ; small'), ["'8 ; small'"]),
    'nothing for a number': (changed('BatchSize = 8', 'BatchSize ='), ['PtychoPINNTraining.BatchSize', "''"]),
    'word for a truth value': (
        changed('ObjectBig = True', 'ObjectBig = Ture'),
        ['PtychoPINNModel.ObjectBig', "'Ture'", 'true or false'],
    ),
    'on for a truth value': (changed('RefineProbe = yes', 'RefineProbe = on'), ['RefineProbe', "'on'"]),
    'word for a number of Ptychodus': (
        changed('7.5e-05\nPixelHeight', 'wide\nPixelHeight'),
        ['Detector.PixelWidthInMeters', "'wide'", 'a number'],
    ),
    'too large': (changed('GridSize = 1', 'GridSize = 9'), ['PtychoPINNModel.GridSize', "'9'", '1 to 5']),
    'too large a weight': (changed('0.5', '5'), ['PtychoPINNTraining.NLLWeight', "'5'", 'from 0 to 1']),
    'too small': (changed('NumEpochs = 3', 'NumEpochs = -1'), ['PtychoPINNTraining.NumEpochs', "'-1'"]),
    'zero neighbours': (
        changed('Neighbors = 6', 'Neighbors = 0'),
        ['PtychoPINNInference.NumNearestNeighbors'],
    ),
    'endless': (changed('LearningRate = 0.001', 'LearningRate = inf'), ['PtychoPINNEngine.LearningRate']),
    'no number': (changed('LearningRate = 0.001', 'LearningRate = nan'), ['PtychoPINNEngine.LearningRate']),
    'huge': (changed('LearningRate = 0.001', f'Seed = {"9" * 30}'), ['PtychoPINNEngine.Seed']),
    'unknown word': (changed('pytorch', 'torch'), ['PtychoPINNEngine.Backend', "'torch'", 'pytorch']),
    'unknown start': (also('StartFrom = ckpt'), ['PtychoPINNEngine.StartFrom', "'ckpt'", 'checkpoint']),
    'missing ]': (changed('[PtychoPINNTraining]', '[PtychoPINNTraining'), ['line 18', 'lacks the ]']),
    'missing ] of the first section': (changed('[Processing]', '[Processing'), ['line 2', 'first [section]']),
    'missing =': (changed('BatchSize = 8', 'BatchSize 8'), ['line 20', "'BatchSize 8'"]),
    'section twice': (also('[PtychoPINNModel]\nProbeMask = True'), ['[PtychoPINNModel]', 'second time']),
    'key twice': (changed('BatchSize = 8', 'NumEpochs = 8'), ['numepochs', '[PtychoPINNTraining]', 'second']),
    'key twice, other capitals': (changed('BatchSize = 8', 'numepochs = 8'), ['second time']),
    'indented section': (
        changed('\n[PtychoPINNTraining]\nNumEpochs', '  [PtychoPINNTraining]\n  NumEpochs'),
        ['PtychoPINNModel.ObjectBig', 'begins with a space'],
    ),
    'indented section behind one of Ptychodus': (
        changed('CropEnabled = False\nCropWidthInPixels = 64\n', 'FileType = HDF5\n  [PtychoPINNModel]\n')
        .replace('\n[PtychoPINNModel]\n', '\n[PtychoPINNEngine]\n', 1)
        .replace('[PtychoPINNEngine]\nGridSize', '[PtychoPINNModel]\nGridSize'),
        ['Diffraction.filetype', 'begins with a space'],
    ),
    'setting behind a section': (
        changed('[PtychoPINNTraining]\nNumEpochs = 3', '[PtychoPINNTraining] NumEpochs = 3'),
        ['line 18', 'NumEpochs = 3'],
    ),
    'common setting without its section': (
        '[DEFAULT]\nNumEpochs = 2\n',
        ['NumEpochs of [DEFAULT]', '[PtychoPINNTraining]'],
    ),
    'byte order mark': (b'\xef\xbb\xbf' + GOOD.encode(), ['byte order mark']),
    'UTF-16': (GOOD.encode('utf-16'), ['line 1', 'encoding']),
    'Latin-1': (GOOD.encode('latin-1'), ['line 1', 'encoding']),
    'binary': (bytes(range(256)) * 4, ['line 2', 'encoding']),
    'zeros': (bytes(4096), ['line 1', 'control character']),
    'escape sequence': (changed('NumEpochs = 3', 'NumEpochs = 3\x1b[2J'), [r'\x1b']),
    'too long': (GOOD.encode() + b'#' * (5 << 20), ['MiB']),
}

FOLLOWED: dict[str, str | bytes] = {
    'as it is': GOOD,
    'without an algorithm': changed('[Processing]\nAlgorithm = PtychoPINN_PINN\n', ''),
    'small letters': changed('GridSize = 1', 'gridsize = 2'),
    'colons and line ends of another system': GOOD.replace(' = ', ': ').replace('\n', '\r\n'),
    'common settings': '[DEFAULT]\nNumEpochs = 2\n[PtychoPINNTraining]\nBatchSize = 2\n',
    'sections of other releases': also('[PtyChiFuture]\nSteps = 3\n[PtychoPINNTorchFuture]\nepochs = 1'),
    'keys of other releases': changed('[Detector]', '[Detector]\nNumberOfDeadPanels = 2'),
    'comments': changed('[PtychoPINNModel]', '[PtychoPINNModel] # the network\n; not\n# Foo = 1'),
    'empty': '',
}

NO_FILES = ('folder', 'link to nothing', 'pipe')
"""What may lie in the place of a settings file."""


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    run: Finished
    followed: dict[str, str] | None

    def refusal(self) -> str:
        """Return the one sentence of a file that was refused before anything was computed."""
        assert self.run.code == 1, self.run.log
        assert self.followed is None
        assert 'Traceback' not in self.run.log
        (line,) = self.run.lines('[ERROR]')
        return line

    def unfollowed(self, parser: configparser.ConfigParser) -> list[str]:
        """Return what the file says and the run did not do, and nobody said so."""
        assert self.run.code == 0, self.run.log
        assert self.followed is not None
        assert 'Traceback' not in self.run.log
        used = {name.casefold(): value for name, value in self.followed.items()}
        told = '\n'.join(self.run.lines('[WARNING]')).casefold()
        return [
            f'{section}.{key} = {text}'
            for section in parser.sections()
            for key, text in parser[section].items()
            if not _same(text, used.get(f'{section}.{key}'.casefold()))
            and f'{section}.{key}'.casefold() not in told
            and f'[{section}]'.casefold() not in told
            and key not in parser.defaults()
        ]


def _same(text: str, used: str | None) -> bool:
    if used is None:
        return False
    if used in ('True', 'False'):
        return (text.casefold() in ('1', 'true', 't', 'yes', 'y')) == (used == 'True')
    try:
        return float(text) == float(used)
    except ValueError:
        return text.casefold() == used.casefold()


def play(
    directory: Path,
    files: Mapping[str, str | bytes],
    environment: dict[str, str],
    arguments: Mapping[str, list[str]] | None = None,
) -> dict[str, Outcome]:
    """Run batch mode with each file."""
    report = directory.parent / 'report.json'
    data = {
        name: base64.b64encode(text.encode() if isinstance(text, str) else text).decode()
        for name, text in files.items()
    }
    data.update((kind, kind) for kind in NO_FILES if kind in files)
    done = subprocess.run(
        [sys.executable, str(HERE / 'settings_driver.py'), str(report)],
        input=json.dumps({'directory': str(directory), 'files': data, 'arguments': dict(arguments or {})}),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return {
        name: Outcome(Finished(item['code'], item['log']), item['followed'])
        for name, item in json.loads(report.read_text()).items()
    }


def parsed(text: str | bytes) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((text.decode() if isinstance(text, bytes) else text).replace('\r\n', '\n'))
    return parser


def mutations() -> dict[str, bytes]:
    """Return 20 files that are cut and 40 with a flipped bit."""
    whole = GOOD.encode()
    rng = random.Random(7)
    files = {f'cut at {5 * i} %': whole[: len(whole) * i // 20] for i in range(20)}
    for i in range(40):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        files[f'flip {i}'] = bytes(data)
    return files


MUTATIONS = mutations()


@pytest.fixture(scope='module')
def outcomes(
    scan: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    import shutil

    folder = tmp_path_factory.mktemp('settings')
    directory = Path(shutil.copytree(scan, folder / 'IN'))
    (folder / 'start.ini').write_text('[PtychoPINNTraining]\nEpochs = 4\n')
    (folder / 'damaged.ini').write_text('[PtychoPINNTraining\nNumEpochs = 4\n')
    (folder / 'word.ini').write_text('[PtychoPINNTraining]\nNumEpochs = four\nBatchSize = 2\n')
    files = {
        **{name: text for name, (text, _) in REFUSED.items()},
        **FOLLOWED,
        **MUTATIONS,
        **dict.fromkeys(NO_FILES, ''),
        **{f'-s {name}': GOOD for name in ('start', 'damaged', 'word')},
    }
    arguments = {f'-s {name}': ['-s', str(folder / f'{name}.ini')] for name in ('start', 'damaged', 'word')}
    return play(directory, files, environment, arguments)


@pytest.mark.parametrize('case', REFUSED)
def test_what_cannot_be_followed_is_refused(outcomes: dict[str, Outcome], case: str) -> None:
    """API-17, API-19, API-56: one sentence with the file, what was found, and what is meant."""
    sentence = outcomes[case].refusal()
    if case != 'unknown algorithm':
        assert 'IN/settings.ini' in sentence
    for word in REFUSED[case][1]:
        assert word in sentence


@pytest.mark.parametrize('case', FOLLOWED)
def test_what_can_be_followed_is(outcomes: dict[str, Outcome], case: str) -> None:
    """API-11, API-17."""
    assert outcomes[case].unfollowed(parsed(FOLLOWED[case])) == []
    if case == 'common settings':
        assert outcomes[case].followed['PtychoPINNTraining.NumEpochs'] == '2'  # type: ignore[index]
    if case == 'empty':
        assert outcomes[case].run.lines('[WARNING]', 'holds no settings')


@pytest.mark.parametrize('case', MUTATIONS)
def test_a_damaged_file_is_refused_or_followed(outcomes: dict[str, Outcome], case: str) -> None:
    """API-17."""
    outcome = outcomes[case]
    if outcome.run.code == 0:
        assert outcome.unfollowed(parsed(MUTATIONS[case])) == []
    else:
        assert len(outcome.refusal()) < 600


@pytest.mark.parametrize(
    ('case', 'words'),
    [
        ('-s start', ['start.ini', 'PtychoPINNTraining.Epochs']),
        ('-s damaged', ['damaged.ini', 'line 1']),
        ('-s word', ['word.ini', "'four'"]),
    ],
)
def test_the_file_of_the_start_counts_too(outcomes: dict[str, Outcome], case: str, words: list[str]) -> None:
    """API-17."""
    sentence = outcomes[case].refusal()
    for word in words:
        assert word in sentence


@pytest.mark.parametrize('kind', NO_FILES)
def test_what_is_no_file_is_refused(outcomes: dict[str, Outcome], kind: str) -> None:
    """API-17: Ptychodus would say that there is none, and go on."""
    assert 'not a regular file' in outcomes[kind].refusal()


RELEASE_CASES = ('unknown key', 'unknown section', 'word for a number', 'too large', 'missing ]', 'UTF-16')
SAVE = """
import sys, pathlib
from ptychodus.model.core import ModelCore
core = ModelCore(None)
core.settings_registry.save_settings(pathlib.Path(sys.argv[1]))
"""


@dataclass(frozen=True)
class Release:
    """A release, and the settings file that it saves."""

    environment: dict[str, str]
    saved: bytes


@pytest.fixture(scope='module')
def releases(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    found = {}
    for release in SUPPORTED:
        folder = tmp_path_factory.mktemp(f'settings-{release}')
        paths = environment_of(unpack(release, folder / 'tree', plugin=True), environment)
        saved = folder / 'settings.ini'
        subprocess.run(
            [sys.executable, '-c', SAVE, str(saved)],
            env=paths,
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )
        found[release] = Release(paths, saved.read_bytes())
    return found


@pytest.mark.releases
@pytest.mark.parametrize('release', SUPPORTED)
def test_every_release_refuses_and_follows(
    releases: dict[str, Release], release: str, tmp_path: Path
) -> None:
    """API-17, API-71; what one release saves is followed by all, though they have renamed settings."""
    directory = release_scan(tmp_path / 'IN', release, {})
    saved = {f'saved by {name}': other.saved for name, other in releases.items()}
    refused = {name: REFUSED[name][0] for name in RELEASE_CASES}
    outcomes = play(directory, {**refused, **saved}, releases[release].environment)
    for name in refused:
        sentence = outcomes[name].refusal()
        assert all(word in sentence for word in REFUSED[name][1]), sentence
    for name, text in saved.items():
        assert outcomes[name].unfollowed(parsed(text)) == [], name


# Without a process of its own: the window, and other algorithms.


class Opened:
    """A registry with a gate before it, as the window or a batch run has it."""

    def __init__(self, folder: Path, chosen: str = 'ptychopinn_pinn', *, refuses: bool = False) -> None:
        self.registry = SettingsRegistry()
        library = PtychoPINNLibrary(self.registry)
        self.settings = library.session.settings
        parameter = self.registry.create_group('Processing').create_string_parameter('Algorithm', chosen)
        others: Any = _Library('pty-chi', 'PIE')
        self.algorithm = ProcessingAlgorithmParameter(parameter, [library, others])
        self.told: list[str] = []
        self.gate = SettingsGate(self.registry, self.algorithm, self.settings, self.told.append)
        self.gate.refuses = refuses
        self._folder = folder

    def open(self, text: str) -> None:
        path = self._folder / 'settings.ini'
        path.write_text(text)
        self.registry.open_settings(path)


@dataclass(frozen=True)
class _Algorithm:
    name: str


class _Library(list[_Algorithm]):
    def __init__(self, name: str, *algorithms: str) -> None:
        super().__init__(map(_Algorithm, algorithms))
        self.name = name


DAMAGED = '[Processing]\nAlgorithm = {}\n[PtychoPINNTraining\nNumEpochs = 3\n'


def test_other_algorithms_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """API-17: theirs is what Ptychodus makes of the file."""
    opened = Opened(tmp_path, refuses=True)
    opened.open('[Processing]\nAlgorithm = pty-chi_PIE\n[PtychoPINNTraining]\nEpochs = 3\nBatchSize = 2\n')
    assert opened.algorithm.get_value() == 'pty-chi_pie'
    assert opened.settings.training.batch_size.get_value() == 2
    opened.open(DAMAGED.format('pty-chi_PIE'))
    assert [record.name for record in caplog.records if record.levelname == 'ERROR'] == [
        'ptychodus.api.settings'
    ]
    assert not opened.told


@pytest.mark.parametrize(
    ('chosen', 'asked', 'ours'),
    [
        ('pty-chi_pie', 'PtychoPINN_Supervised', True),
        ('pty-chi_pie', 'PtychoPINN_PIM', True),
        ('pty-chi_pie', 'pty-ch', False),
        ('ptychopinn_pinn', 'PtychoPINN_PINN', True),
        ('ptychopinn_pinn', 'unreadable', True),
        ('ptychopinn_pinn', 'pty-chi_pie', False),
    ],
)
def test_whose_run_a_damaged_file_asks_for(tmp_path: Path, chosen: str, asked: str, ours: bool) -> None:
    """API-17: ours if it names us, or nobody and we are the default."""
    opened = Opened(tmp_path, chosen, refuses=True)
    if ours:
        with pytest.raises(ConfigError, match='PtychoPINNTraining'):
            opened.open(DAMAGED.format(asked))
    else:
        opened.open(DAMAGED.format(asked))


def test_the_window_says_what_it_could_not_read_and_keeps_the_rest(tmp_path: Path) -> None:
    """API-18."""
    opened = Opened(tmp_path)
    opened.open('[PtychoPINNModel]\nGridSize = two\n[PtychoPINNTraining]\nNumEpochs = 7\n')
    (sentence,) = opened.told
    assert "GridSize is 'two'" in sentence
    assert opened.settings.training.nepochs.get_value() == 7
    assert opened.settings.model.gridsize.get_value() == 1
    with pytest.raises(ConfigError, match='GridSize'):
        opened.gate.require_followed()
    opened.open(DAMAGED.format('PtychoPINN_PINN'))
    assert len(opened.told) == 2
    opened.open('[PtychoPINNTraining]\nNumEpochs = 9\n')
    assert len(opened.told) == 2
    opened.gate.require_followed()
    assert opened.settings.training.nepochs.get_value() == 9


def test_a_damaged_file_still_tells_its_algorithm(tmp_path: Path) -> None:
    """API-17."""
    path = tmp_path / 'settings.ini'
    path.write_bytes(b'\xff[Processing\n  algorithm: pty-chi_PIE \nfoo')
    assert asked_algorithm(path) == 'pty-chi_PIE'
    path.write_bytes(b'[Proc')
    assert asked_algorithm(path) is None
    assert asked_algorithm(tmp_path / 'none.ini') is None
    with pytest.raises(ConfigError, match='not a regular file'):
        read_settings(tmp_path)
