"""What the README and the pages of docs/ show works as it stands, with fewer epochs."""

import bz2
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml

import ptycho_engine
from ptycho_engine.backends.base import FRAMEWORKS
from ptycho_engine.commands import main
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.product import read_product
from tests.conftest import small_scan
from tests.upstream.test_imports_of_the_original import write_npz

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'
PAGES = (README, ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md')))
CLUSTERS = ROOT / 'docs' / 'clusters.md'
OWN = 'ptychopinn-ptychodus'


def blocks(language: str, page: Path) -> list[str]:
    found = re.findall(rf'^ *```{language}\n(.*?)^ *```', page.read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    raw = small_scan(points=5)
    raw.to_file(tmp_path / 'run.npz')
    monkeypatch.chdir(tmp_path)
    assert main(['simulate', '--from', 'run.npz', '--output', 'IN']) == 0
    with h5py.File('IN/diffraction.h5') as file:
        for number, frame in enumerate(file['patterns']):
            tifffile.imwrite(f'frames_{number:04}.tif', frame)
    with h5py.File('IN/product.h5') as file:
        place = [file[f'probe_position_{axis}_m'][()] for axis in 'yx']
    np.savetxt('stage.csv', np.stack(place, axis=1), delimiter=',')
    with h5py.File('dp.h5', 'w') as file, h5py.File('IN/diffraction.h5') as ours:
        file['dp'] = ours['patterns'][()]
        np.save('data.npy', file['dp'][()])
    shutil.copy('IN/product.h5', 'para.h5')
    product = read_product(Path('para.h5'))
    np.save('probe.npy', product.probe)
    np.save('positions_px.npy', np.stack(product.positions_px()[::-1], axis=1))
    write_npz('theirs.npz', raw)
    Path('theirs.yaml').write_text('n_images: 16\nnepochs: 1\nprobe_scale: 1.0\nnphotons: 1e5\n')
    return tmp_path


@pytest.mark.parametrize(
    'page', [page for page in PAGES if '```python' in page.read_text() and page != CLUSTERS], ids=str
)
def test_the_python_examples_run(page, inside):
    (code,) = blocks('python', page)
    names: dict[str, object] = {}
    exec(compile(code.replace('nepochs=20', 'nepochs=1, n_groups=32'), page.name, 'exec'), names)
    assert names['obj'].shape == names['scan'].grid.shape
    if 'nepochs=20' in code:
        assert load_archive('model').config.nepochs == 1


def site_pages():
    """Return docs/site_pages.py."""
    pytest.importorskip('mkdocs', reason="pip install '.[docs]'")
    spec = importlib.util.spec_from_file_location('site_pages', ROOT / 'docs' / 'site_pages.py')
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    return pages


def test_the_site_has_pages_of_all_settings_and_of_names_that_are_public():
    """That its links lead somewhere, `mkdocs build --strict` sees (`.ci/run`)."""
    pages = site_pages()
    table = pages.settings_page()
    for configuration in pages.SETTINGS.values():
        for field in fields(configuration):
            assert field.name == 'model' or f'| `{field.name}` |' in table, field.name
    readme = pages.with_page_links(README.read_text(), README, 'index.md')
    assert '](window.md)' in readme
    assert '](docs/' not in readme
    assert 'LICENSE' in readme
    assert '](LICENSE)' not in readme
    names = re.findall(r'^::: ptycho_engine\.(\S+)$', (ROOT / 'docs' / 'api.md').read_text(), re.MULTILINE)
    assert len(names) > 8
    for name in names:
        module, last = name.rsplit('.', 1)
        assert module.startswith('live.') or ptycho_engine._PUBLIC[last] == module, name


QUICK = ['--epochs', '1', '--groups', '16']


COMPARISON = ['python', 'tests/benchmarks/bench_prior.py', '--count', '1']
UNCERTAINTY = ['python', 'tests/benchmarks/bench_uncertainty.py']


def commands() -> list[list[str]]:
    """Return all shell commands of all pages, as words."""
    text = '\n'.join(block for page in PAGES for block in blocks('sh', page)).replace('\\\n', ' ')
    parts = [part for line in text.splitlines() for part in line.split('&&')]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def quick(words: list[str]) -> list[str]:
    """Return a command of ours with fewer epochs, points and pixels."""
    points = [] if '--points' in words else ['--points', '25']
    extra = {'train': QUICK, 'simulate': [*points, '--size', '48']}
    return [*words, *extra.get(words[0], []), '--quiet']


def test_the_shell_examples_run(inside):
    """All of ours but `demo`, which `.ci/run` runs."""
    ours = [words[1:] for words in commands() if words[0] == 'ptychopinn' and words[1] != 'demo']
    ours = [words for number, words in enumerate(ours) if words not in ours[:number]]
    for words in ours:
        # A scan of 25 patterns may well have something to be said about it.
        allowed = {0, 1} if words[0] == 'doctor' else {0}
        assert main(quick(words)) in allowed, words
    assert {words[0] for words in ours} == {
        *(
            'simulate',
            'prepare',
            'make-fixture',
            'doctor',
            'train',
            'inspect',
            'reconstruct',
            'live',
            'evaluate',
        ),
        *('convert', 'convert-product', 'validate-product', 'import-upstream', 'export-onnx', 'settings'),
    }
    for made in (
        'result/product.h5',
        'scores/scores.csv',
        'IN32/product.h5',
        'small.json',
        'spiral/scan.npz',
        'images/IN2/product.h5',
        'image_phase.tif',
        'IN.cxi',
        'ours/theirs.npz',
        'trained/wts.h5.zip',
        'prior.onnx',
    ):
        assert (inside / made).is_file(), made


MEASURED = ROOT.parent / 'shared' / 'data' / 'aps26id_gold_20frames.npz'
STAR = MEASURED.with_name('siemens-star-small.npz.bz2')


def run_console(block: str, *, extra: dict[str, list[str]] | None = None) -> None:
    """Run the commands of a block; `extra` has more words for some of them."""
    for line in block.replace('\\\n', ' ').splitlines():
        program, *words = shlex.split(line)
        if program in {'curl', 'bunzip2'}:
            # What they bring is there already.
            continue
        assert program == 'ptychopinn'
        assert main([*words, *(extra or {}).get(words[0], []), '--quiet']) == 0, words


@pytest.mark.skipif(not MEASURED.is_file(), reason='the measured frames are not on this machine')
def test_the_measured_example_runs(tmp_path, monkeypatch):
    """The gold of docs/measured.md, whose frames do not come with the project."""
    shutil.copy(MEASURED, tmp_path)
    monkeypatch.chdir(tmp_path)
    gold, _ = blocks('console', ROOT / 'docs' / 'measured.md')
    run_console(gold)
    with h5py.File('image/product.h5') as file:
        phase = np.angle(file['object'][0])
        assert phase.shape == tuple(file['object'].shape[1:])
        # Branches of gold stand 1.5 rad off what is around them.
        assert np.ptp(phase[60:110, 60:100]) > 1


@pytest.mark.skipif(not STAR.is_file(), reason='the measured frames are not on this machine')
def test_the_measured_star_runs(tmp_path, monkeypatch):
    """The star of docs/measured.md, by a part of its patterns and uncalibrated: all of it takes minutes."""
    (tmp_path / 'siemens-star-small.npz').write_bytes(bz2.decompress(STAR.read_bytes()))
    monkeypatch.chdir(tmp_path)
    _, star = blocks('console', ROOT / 'docs' / 'measured.md')
    run_console(star, extra={'reconstruct': ['--n-subsample', '40', '--calibrate', 'off']})
    assert Path('star/product.h5').is_file()


def test_the_batch_example_runs(inside):
    """By the program that the user runs, with fewer epochs; the simulation is in this process."""
    script = Path(sys.executable).with_name('ptychodus')
    if not script.is_file():
        pytest.skip('Ptychodus is not installed')
    batch = [block for block in blocks('sh', ROOT / 'docs' / 'window.md') if 'ptychodus -b' in block]
    lines = [shlex.split(line, comments=True) for block in batch for line in block.splitlines()]
    for program, *words in lines:
        if program == 'ptychopinn':
            assert main(quick(words)) == 0
            settings = inside / 'IN' / 'settings.ini'
            text = settings.read_text().replace('NumEpochs = 20', 'NumEpochs = 1')
            settings.write_text(f'{text}\n[PtychoPINNEngine]\nNumGroups = 16\n')
            continue
        run = [str(script), *words] if program == 'ptychodus' else [program, *words]
        done = subprocess.run(
            run, env={**os.environ, 'OMP_NUM_THREADS': '1'}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (inside / 'OUT' / 'product.h5').is_file()


def test_the_slurm_script_shares_the_list(inside):
    """As each task of the array would run it, with what Slurm says to it."""
    (script,) = blocks('bash', CLUSTERS)
    (inside / 'array.sh').write_text(script)
    assert main(quick(['simulate', '--output', 'IN2'])) == 0
    first, last = re.findall(r'--array=(\d+)-(\d+)', script)[0]
    assert first == '1'
    tasks = range(1, int(last) + 1)
    said = {'SLURM_CPUS_PER_TASK': '1', 'SLURM_ARRAY_TASK_COUNT': last}
    said['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    for number in [*tasks, 2]:
        done = subprocess.run(
            ['bash', 'array.sh'],
            env={**os.environ, **said, 'SLURM_ARRAY_TASK_ID': str(number)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        made = {path.name for path in (inside / 'images').iterdir()}
        assert made == ({'IN'} if number == 1 else {'IN', 'IN2'})
    assert '1 scan: 1 done before.' in done.stdout


def test_the_function_that_globus_runs_gives_a_result(inside):
    """In a script of its own, as on the page; the flow itself needs an account."""
    pytest.importorskip('ptychodus')
    if importlib.util.find_spec('ptychodus.model.globus') is None:
        pytest.skip('this Ptychodus has no flow')
    (code,) = blocks('python', CLUSTERS)
    (inside / 'ready.py').write_text(code)
    done = subprocess.run(
        [sys.executable, 'ready.py'],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    comments = read_product(inside / 'OUT' / 'product.h5').comments
    assert 'with the learned prior' in comments
    assert 'deviance' in comments


def test_the_comparison_is_what_its_command_prints():
    done = subprocess.run(
        [sys.executable, *COMPARISON[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    printed = [
        re.findall(r'[\d.]+', line)
        for line in done.stdout.splitlines()
        if line.startswith('| ') and ' px' in line
    ]
    stated = [
        re.findall(r'[\d.]+', line)
        for line in README.read_text().splitlines()
        if re.match(r'\| \d+ px steps', line)
    ]
    assert len(printed) == len(stated) == 6
    for found, told in zip(printed, stated, strict=True):
        # Step, exponent, objects; then for each column mean, spread, two similarities, seconds.
        columns = [[float(word) for word in found[4 + 5 * k : 9 + 5 * k]] for k in range(3)]
        cells = [[float(word) for word in told[3 + 4 * k : 7 + 4 * k]] for k in range(3)]
        for (mean, _, amplitude, phase, seconds), cell in zip(columns, cells, strict=True):
            assert cell == pytest.approx([mean, amplitude, phase, seconds], abs=0.51, rel=0)
            assert cell[:3] == pytest.approx([mean, amplitude, phase], abs=0.00551, rel=0)
            assert cell[0] == pytest.approx(mean, abs=0.00051, rel=0)


def test_the_case_in_which_the_prior_invents_is_what_its_command_makes(inside):
    (words,) = (words for words in commands() if words[:2] == UNCERTAINTY)
    done = subprocess.run(
        [sys.executable, str(ROOT / words[1]), *words[2:]], capture_output=True, text=True, check=True
    )
    found = re.findall(r'(\d\.\d+) (?:by|with|of)|correlation (\d\.\d+)', done.stdout)
    physics, prior, size, correlation = (first or second for first, second in found)
    page = (ROOT / 'docs' / 'sparse.md').read_text()
    stated = re.search(r'from (\S+) to (\S+) \(NRMSE\)', page).groups()
    assert (float(physics), float(prior)) == pytest.approx([float(text) for text in stated], abs=0.0011)
    told = re.search(r'right in size, (\S+) times the error.*?correlation (\S+)', page, re.DOTALL).groups()
    assert (float(size), float(correlation)) == pytest.approx([float(text) for text in told], abs=0.021)
    assert (inside / 'invented.png').stat().st_size > 20_000


def test_what_the_prior_adds_is_what_is_kept_beside_its_benchmark():
    kept = json.loads((ROOT / 'tests' / 'benchmarks' / 'prior_scores.json').read_text())
    rows = re.findall(
        r'^\| (\d+) px(?:, (1e\d))? \| (\w+) \| (\S+) \| (\S+) \|$',
        (ROOT / 'docs' / 'sparse.md').read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 8
    for step, photons, kind, *figures in rows:
        for column, figure in zip(('physics', 'prior'), figures, strict=True):
            exact = kept[f'{step}px-{photons or "1e5"} {kind}-0 {column}']['nrmse']
            assert float(figure) == pytest.approx(exact, abs=5.1e-5), (step, kind, column)


def test_no_page_is_long_without_a_picture():
    for page in PAGES:
        text = page.read_text()
        assert len(text.split()) <= 1500 or '![' in text, page.name


def test_each_page_is_on_the_site():
    site = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
    named = set(re.findall(r'[\w/-]+\.md', str(site['nav'])))
    assert {page.name for page in (ROOT / 'docs').glob('*.md')} <= named


def test_the_site_shows_notebooks_as_pages():
    """With the links to them leading there, and all their code."""
    pages = site_pages()
    notebook = ROOT / 'docs' / 'tutorials' / '1-first-image.ipynb'
    text = pages.notebook_page(notebook)
    assert text.startswith('# A first image')
    assert text.count('```python') == 3
    assert text.endswith('(../pictures/tutorials/1-first-image.png)\n')
    index = ROOT / 'docs' / 'tutorials.md'
    assert '](tutorials/1-first-image.md)' in pages.with_page_links(index.read_text(), index, 'tutorials.md')


def test_each_command_is_run_somewhere():
    """Here, by `.ci/run`, or, what opens a window, by the conformance tests."""
    continuous = (ROOT / '.ci' / 'run').read_text()
    for words in commands():
        if words[0] == 'ptychopinn':
            assert words[1] != 'demo' or 'ptychopinn demo' in continuous
        elif words[:4] == ['python', '-m', 'pip', 'install']:
            *options, what = words[4:]
            if what.startswith('.['):
                assert options[:2] == ['-c', 'constraints.txt'], words
                assert what.rstrip(']') in continuous, f'.ci/run does not install {what}'
            else:
                assert what in ('torch', '.', 'requirements-hashed.txt'), f'{what} is on no package index'
                assert f'install -q {" ".join(options)} ' in continuous, words
        elif words[0] == 'pytest':
            assert ' '.join(words[1:]) in continuous
        elif words[0] == 'python':
            assert words == COMPARISON or words[:2] == UNCERTAINTY
        else:
            assert words in (['ptychodus'], ['cp', 'OUT/model.zip', 'IN/']) or words[:2] == [
                'ptychodus',
                '-b',
            ]


def test_install_commands_name_what_can_be_had():
    """The package itself is on no index; what it needs is, and is not older than what is claimed."""
    texts = [*(page.read_text() for page in PAGES), *(path.read_text() for path in ROOT.glob('pty*/**/*.py'))]
    lines = [line for text in texts for line in text.splitlines() if OWN in line]
    assert not [line for line in lines if re.search(r'\binstall', line)]
    extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']
    assert FRAMEWORKS['tensorflow'][2] == f'pip install "{extras["tensorflow"][0]}"'


def test_the_pages_name_files_that_the_reader_has():
    # Those of the original are what its users come with.
    made = {'ptychopinn-demo', 'IN', 'OUT', 'theirs.npz', 'ours'}
    for words in commands():
        for word in words:
            if word.endswith('.npz') and words[words.index(word) - 1] not in (
                '--output',
                '--output-npz',
                '--fix',
            ):
                assert word.split('/')[0] in made, words


def test_the_settings_example_is_what_simulate_writes(inside):
    (ini,) = blocks('ini', ROOT / 'docs' / 'window.md')
    assert (inside / 'IN' / 'settings.ini').read_text().split() == ini.split()


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', page.read_text()):
            assert (page.parent / target).exists(), f'{page.name}: {target}'


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 130
