"""What is handed on: a wheel with all that the packages hold, and a source archive that makes the same."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ptycho_engine import __version__

build = pytest.importorskip('hatchling.build', reason='pip install hatchling')

ROOT = Path(__file__).parents[1]
PACKAGES = ('ptycho_engine', 'ptychopinn_ptychodus')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Return the folder of an unpacked source archive."""
    folder = tmp_path_factory.mktemp('sdist')
    name = _within(ROOT, build.build_sdist, folder)
    with tarfile.open(folder / name) as archive:
        # Python 3.11.2, which Debian 12 has, knows no filters.
        archive.extractall(folder, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
    return folder / name.removesuffix('.tar.gz')


def _within(place, make, folder):
    before = Path.cwd()
    os.chdir(place)
    try:
        return make(str(folder))
    finally:
        os.chdir(before)


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith('/RECORD')}


def test_the_source_archive_makes_the_same_wheel(source, tmp_path):
    for name in ('from-project', 'from-archive'):
        (tmp_path / name).mkdir()
    ours = tmp_path / 'from-project' / _within(ROOT, build.build_wheel, tmp_path / 'from-project')
    theirs = tmp_path / 'from-archive' / _within(source, build.build_wheel, tmp_path / 'from-archive')
    held = contents(ours)
    assert held == contents(theirs)
    there = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    assert there == {name for name in held if name.startswith(PACKAGES) and '.dist-info/' not in name}


def test_two_builds_are_equal_to_the_byte(tmp_path, source):
    """Whenever and from which of both they are made."""
    made = []
    for number, place in enumerate((ROOT, source)):
        for make in (build.build_wheel, build.build_sdist):
            folder = tmp_path / f'{number}-{make.__name__}'
            folder.mkdir()
            made.append((folder / _within(place, make, folder)).read_bytes())
    wheel, sdist, wheel_again, sdist_again = made
    assert wheel == wheel_again
    assert sdist == sdist_again


def test_what_the_container_copies_is_all_that_the_wheel_is_made_of(tmp_path):
    """`Containerfile` installs from the files that it names, whatever else lies beside them."""
    (place := tmp_path / 'build').mkdir()
    for line in (ROOT / 'Containerfile').read_text().splitlines():
        if line.startswith('COPY '):
            *names, target = line.split()[1:]
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, place / target)
                else:
                    shutil.copy(ROOT / name, place / target)
    wheels = []
    for name, root in (('ours', ROOT), ('theirs', place)):
        (tmp_path / name).mkdir()
        wheels.append(tmp_path / name / _within(root, build.build_wheel, tmp_path / name))
    ours, theirs = map(contents, wheels)
    assert ours == theirs


def test_the_source_archive_holds_what_its_readme_uses(source):
    versions = ('constraints.txt', 'requirements-hashed.txt')
    for name in (
        *versions,
        'README.md',
        'LICENSE',
        'specs/demo.png',
        'pyproject.toml',
        'mkdocs.yml',
        '.ci/run',
    ):
        assert (source / name).is_file(), name


def test_each_dependency_has_a_lower_bound_that_can_be_tested():
    """`.ci/oldest.py` reads them; the tested set lies above, and names each dependency once."""
    text = (ROOT / 'pyproject.toml').read_text()
    needs = [Requirement(item) for item in tomllib.loads(text)['project']['dependencies']]
    tested = _pins((ROOT / 'constraints.txt').read_text())
    oldest = _pins(subprocess.check_output([sys.executable, str(ROOT / '.ci' / 'oldest.py')], text=True))
    for need in needs:
        (bound,) = need.specifier
        assert bound.operator == '>=', need
        assert oldest[canonicalize_name(need.name)] == bound.version, need
        assert Version(tested[canonicalize_name(need.name)]) >= Version(bound.version), need
    assert oldest.keys() == tested.keys()


def test_the_hashed_requirements_are_the_tested_set_without_torch():
    hashed = (ROOT / 'requirements-hashed.txt').read_text().replace('\\\n', '')
    requirements = [line.split() for line in hashed.splitlines() if not line.startswith('#')]
    for pin, *hashes in requirements:
        assert hashes, pin
        assert all(re.fullmatch('--hash=sha256:[0-9a-f]{64}', item) for item in hashes), pin
    tested = _pins((ROOT / 'constraints.txt').read_text())
    assert tested.pop('torch')
    assert _pins('\n'.join(pin for pin, *_ in requirements)) == tested, 'run .ci/lock'


def _pins(text):
    lines = [line.split('==') for line in text.splitlines() if line and not line.startswith('#')]
    pins = {canonicalize_name(name): release for name, release in lines}
    assert len(pins) == len(lines)
    return pins


def test_the_version_is_one_everywhere():
    """In the code; the citation, the recipe and the top of the changelog follow it."""
    recipe = (ROOT / 'conda' / 'meta.yaml').read_text()
    assert re.search(r'set version = "(.*)"', recipe)[1] == __version__
    assert re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)[1] == __version__


def test_the_recipe_needs_what_the_package_needs():
    needs = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['dependencies']
    recipe = re.sub(r'\{%.*?%\}|[{}]{2}', '', (ROOT / 'conda' / 'meta.yaml').read_text())
    theirs = {'torch': 'pytorch', 'matplotlib': 'matplotlib-base'}
    wanted = {f'{theirs.get(need.name, need.name)} {need.specifier}' for need in map(Requirement, needs)}
    assert set(yaml.safe_load(recipe)['requirements']['run'][1:]) == wanted


def test_a_tag_is_published_without_a_password():
    """By the workflow itself, which alone may ask PyPI for a token, and only after the build was checked."""
    workflow = yaml.safe_load((ROOT / '.github' / 'workflows' / 'release.yml').read_text())
    assert workflow[True] == {'push': {'tags': ['v*']}}
    jobs = workflow['jobs']
    assert jobs['publish']['permissions'] == {'id-token': 'write'}
    assert jobs['publish']['needs'] == 'build'
    assert 'secrets.' not in str(workflow)
    assert workflow['permissions'] == {}
    said = [step.get('run', '') for step in jobs['build']['steps']]
    (check,) = (step for step in said if 'GITHUB_REF_NAME' in step)
    for tag, code in ((f'v{__version__}', 0), ('v9.9.9', 1)):
        done = subprocess.run(['bash', '-c', check], cwd=ROOT, env={**os.environ, 'GITHUB_REF_NAME': tag})
        assert done.returncode == code, tag


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    return folder / _within(ROOT, build.build_wheel, folder)


def test_the_wheel_holds_the_packages_and_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (written,) = (name for name in names if name.endswith('.dist-info/METADATA'))
        metadata = Metadata.from_email(archive.read(written), validate=True)
    assert {name.split('/')[0].removesuffix(f'-{__version__}.dist-info') for name in names} == {
        *PACKAGES,
        'ptychodus',
        'ptychopinn_ptychodus',
    }
    assert [name for name in names if name.startswith('ptychodus/')] == [
        'ptychodus/plugins/ptychopinn_reconstructor.py'
    ]
    assert {f'{package}/py.typed' for package in PACKAGES} <= set(names)
    assert 'ptycho_engine/network/prior.zip' in names
    assert wheel.stat().st_size < 5e6
    assert str(metadata.version) == __version__
    assert metadata.license_expression == 'BSD-3-Clause'
    assert metadata.description.startswith('# ptychopinn-ptychodus')


def test_what_was_installed_is_uninstalled(wheel, tmp_path):
    """From the wheel alone, beside another package that has the folder of plugins too."""
    home = tmp_path / 'home'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(home)], check=True)
    (packages,) = home.glob('lib/python*/site-packages')
    (packages / 'ptychodus' / 'plugins').mkdir(parents=True)
    (packages / 'ptychodus' / 'plugins' / 'theirs.py').touch()

    def there():
        return {path.relative_to(home) for path in home.rglob('*')}

    before = there()
    pip = [sys.executable, '-m', 'pip', '--python', str(home), '--disable-pip-version-check']
    subprocess.run([*pip, 'install', '-q', '--no-deps', '--no-index', str(wheel)], check=True)
    assert (packages / 'ptychodus' / 'plugins' / 'ptychopinn_reconstructor.py').is_file()
    assert (home / 'bin' / 'ptychopinn').is_file()
    subprocess.run([*pip, 'uninstall', '-q', '-y', 'ptychopinn-ptychodus'], check=True)
    assert there() == before


PERMISSIVE = re.compile(
    r'\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|0BSD|Zlib|CC0|CC-BY|HPND)'
)
UNSTATED = {'hdf5plugin': 'MIT, and the licences of the compression libraries in it'}
"""Packages whose metadata do not say it, and what their files say."""


def test_all_that_is_installed_with_it_may_be_used_and_handed_on():
    """Permissive licences, or weak copyleft (MPL); those of the extras are not looked at: PyQt5 is GPL."""
    todo = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['dependencies']
    seen: dict[str, str] = {}
    while todo:
        need = Requirement(todo.pop())
        name = canonicalize_name(need.name)
        if name in seen or (need.marker and not need.marker.evaluate({'extra': ''})):
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        said = found.metadata
        classes = [line for line in said.get_all('Classifier') or () if line.startswith('License ::')]
        stated = said.get('License-Expression') or '; '.join(classes) or said.get('License') or ''
        seen[name] = UNSTATED.get(name, stated)
        todo += found.requires or []
    assert len(seen) > 30
    assert {name: text for name, text in seen.items() if not PERMISSIVE.search(text)} == {}
    strict = r'\b(A?GPL|General Public License v)'
    assert {name: text for name, text in seen.items() if re.search(strict, text)} == {}


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert {'cff-version', 'message', 'title', 'authors'} <= cited.keys()
    assert cited['version'] == __version__
    (article,) = cited['references']
    assert article['doi'].startswith('10.')


CONSUMER = """
from ptycho_engine import EpochDone, Reconstructed, TrainingConfig
from ptycho_engine import load_archive, load_scan, reconstruct, train

scan = load_scan('IN')
for event in train([scan], TrainingConfig(nepochs=2), 'model'):
    if isinstance(event, EpochDone):
        reveal_type(event.validation_deviance)
for result in reconstruct(scan, load_archive('model')):
    if isinstance(result, Reconstructed):
        reveal_type(result.reconstruction.object_array)
"""


def test_a_program_that_uses_the_engine_sees_its_types(tmp_path):
    """As mypy sees an installed package: without py.typed it would find none."""
    pytest.importorskip('mypy', reason="pip install '.[dev]'")
    (tmp_path / 'use.py').write_text(CONSUMER)
    checked = subprocess.run(
        [sys.executable, '-m', 'mypy', '--strict', '--cache-dir', str(tmp_path / 'cache'), 'use.py'],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != 'MYPYPATH'},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    assert 'Revealed type is "float"' in checked.stdout
    assert 'complexfloating' in checked.stdout
