"""Commands under unusual names, locales, homes and users, as beamlines have them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEXT = ';'
SEVERAL = f"""
import sys
from ptycho_engine.commands import main
codes, words = [], []
for word in sys.argv[1:]:
    if word == '{NEXT}':
        codes.append(main(words))
        words = []
    else:
        words.append(word)
print(*codes)
"""
"""Commands one after the other in one process, for it takes longer to start than to do them."""
MODEL_OPTIONS = ['--epochs', '1', '--filters-scale', '1', '--architecture', 'cnn']

ODD_NAMES = {
    'spaces': 'a folder with spaces',
    'not ascii': 'Probe 5 µm – 図 é',
    'a line break and escapes': 'a\n\x1b[31mptychopinn: fake',
    'dollars and quotes': """$\\frac$ 'it' "is" %s {0}""",
    'bytes that are not UTF-8': os.fsdecode(b'5 \xb5m'),
}


def call(
    commands, folder, *, environment=None, keep=True, before=()
) -> tuple[list[int], list[str], list[str]]:
    """Run commands; return their exit codes, and the lines of standard output and error."""
    words = [word for command in commands for word in (*map(str, command), NEXT)]
    variables = {**(os.environ if keep else {'PATH': os.environ['PATH']}), **(environment or {})}
    variables['PYTHONPATH'] = str(ROOT)
    done = subprocess.run(
        [*before, sys.executable, '-c', SEVERAL, *words],
        cwd=folder,
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        encoding='utf-8',
        errors='surrogateescape',
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *shown, codes = done.stdout.splitlines()
    return [int(code) for code in codes.split()], shown, done.stderr.splitlines()


def require_quiet_success(commands, folder, **options) -> None:
    codes, shown, complaints = call(commands, folder, **options)
    assert codes == [0] * len(commands), (shown, complaints)
    assert not any('Traceback' in line for line in complaints)
    for line in (*shown, *complaints):
        assert line.isprintable(), line
        assert not line.startswith('\x1b')


def light_commands(scan: Path, out: Path) -> list[list[object]]:
    return [
        ['validate-product', scan / 'product.h5'],
        ['convert-product', '--input-npz', scan / 'scan.npz', '--output-product', out / 'p.h5'],
        ['prepare', scan, '--crop', '32', '--output', out / 'cropped'],
        ['doctor', '--data-only', scan],
    ]


@pytest.mark.parametrize('name', ODD_NAMES.values(), ids=ODD_NAMES)
def test_cfg_19_odd_names(directory, tmp_path, name):
    folder = tmp_path / name
    scan = shutil.copytree(directory, folder / name)
    require_quiet_success(light_commands(scan, folder / f'{name} out'), folder)


def test_cfg_19_a_run_under_an_odd_name(directory, tmp_path):
    """Groups cache, settings file, archive, pictures and tables too."""
    name = ODD_NAMES['a line break and escapes'] + os.fsdecode(b' \xb5 $a$')
    folder = tmp_path / name
    scan = shutil.copytree(directory, folder / name)
    options = [*MODEL_OPTIONS, '--gridsize', '2', '--groups', '8']
    again = ['--config', folder / 'model' / 'train.toml']
    commands = [
        ['train', scan / 'scan.npz', '--output', folder / 'model', *options],
        ['train', scan / 'scan.npz', '--output', folder / 'again', *again],
        ['inspect', folder / 'model'],
        [
            *('reconstruct', scan, '--model', folder / 'model', '--output', folder / name / 'result'),
            *('--truth', scan / 'truth.h5', '--refine-iterations', '0'),
        ],
    ]
    require_quiet_success(commands, folder)


@pytest.mark.parametrize(
    'environment',
    [
        {'LANG': 'C', 'LC_ALL': 'C'},
        {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
        {'HOME': None},
        {'HOME': '/nonexistent'},
        {'TMPDIR': '/nonexistent'},
    ],
    ids=lambda value: ','.join(f'{k}={v}' for k, v in value.items()),
)
def test_cfg_19_locale_and_home(directory, tmp_path, environment):
    scan = shutil.copytree(directory, tmp_path / 'in')
    require_quiet_success(light_commands(scan, tmp_path / 'out'), tmp_path, environment=environment)


@pytest.fixture
def as_somebody():
    """What runs a command as a user without name and home, and a folder, of which `out` alone is theirs."""
    if os.name != 'posix' or os.geteuid() != 0 or shutil.which('setpriv') is None:
        pytest.skip('only root can become another user')
    before = ['setpriv', '--reuid=54321', '--regid=54321', '--clear-groups']
    # A virtual environment in a folder of root's own is out of reach, and the system's Python runs instead.
    script = 'import h5py, ptycho_engine'
    environment = {'PATH': os.environ['PATH'], 'PYTHONPATH': str(ROOT)}
    tried = subprocess.run([*before, sys.executable, '-c', script], cwd='/', env=environment, check=False)
    if tried.returncode != 0:
        pytest.skip('another user may not run this Python')
    # Not in pytest's own temporary folder, into which only root may look.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / 'out').mkdir()
        os.chown(folder / 'out', 54321, 54321)
        yield before, folder


def test_cfg_19_another_user_with_read_only_data(directory, model, as_somebody):
    before, folder = as_somebody
    scan = shutil.copytree(directory, folder / 'in')
    copy = shutil.copytree(model, folder / 'model')
    for path in (scan, copy, *scan.iterdir(), *copy.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    out = folder / 'out'
    words_of_a_run = ['reconstruct', scan, '--model', copy, '--output', out / 'r', '--refine-iterations', '0']
    commands = [*light_commands(scan, out), ['inspect', copy], words_of_a_run]
    require_quiet_success(commands, folder, keep=False, environment={'HOME': None}, before=before)
    commands = [
        ['prepare', scan, '--crop', '32', '--output', scan / 'new'],
        ['convert-product', '--input-npz', scan / 'scan.npz', '--output-product', scan / 'p.h5'],
        ['train', scan, '--output', scan / 'model', *MODEL_OPTIONS],
    ]
    codes, _, complaints = call(commands, folder, before=before)
    assert codes == [1, 1, 1]
    for words, line in zip(commands, complaints, strict=True):
        assert line.startswith(f'ptychopinn {words[0]}: ')
        assert 'may not be written to (Permission denied)' in line


def test_cfg_19_what_may_not_be_read_is_said_to_be_so(directory, model, as_somebody):
    before, folder = as_somebody
    scan = shutil.copytree(directory, folder / 'in')
    copy = shutil.copytree(model, folder / 'model')
    copy.chmod(0o755)
    scan.chmod(0o755)
    for path in (*scan.iterdir(), *copy.iterdir()):
        path.chmod(0)
    out = folder / 'out' / 'new'
    commands = [
        ['validate-product', scan / 'product.h5'],
        ['prepare', scan / 'scan.npz', '--output', out],
        ['prepare', scan, '--output', out],
        ['inspect', copy],
    ]
    codes, _, complaints = call(commands, folder, before=before)
    assert set(codes) <= {1, 2}
    for _, line in zip(commands, complaints, strict=True):
        assert 'ermission denied' in line
        assert 'copy it again' not in line


@pytest.mark.skipif(os.name != 'posix', reason='umask')
def test_cfg_19_results_follow_the_umask_and_links(directory, tmp_path):
    scan = shutil.copytree(directory, tmp_path / 'in')
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'out').symlink_to(tmp_path / 'elsewhere')
    words = [
        'convert-product',
        '--input-npz',
        scan / 'scan.npz',
        '--output-product',
        tmp_path / 'out' / 'p.h5',
    ]
    require_quiet_success([words], tmp_path, before=['bash', '-c', 'umask 027; exec "$@"', 'bash'])
    written = tmp_path / 'elsewhere' / 'p.h5'
    assert written.stat().st_mode & 0o777 == 0o640
