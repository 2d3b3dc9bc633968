"""How PtychoPINN gets into an unmodified Ptychodus, and out of it again (API-0x)."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PLUGIN, Finished, absent

pytestmark = pytest.mark.ptychodus
Run = Callable[..., Finished]

OURS = ['ptychopinn_pinn', 'ptychopinn_supervised', 'ptychopinn_physics']

LOOK = """
import json, logging, sys
import ptychodus.model.core as core
original = core.ProcessingCore, core.PtychoPINNReconstructorLibrary, core.ModelCore.batch_mode_execute
{before}
models = [core.ModelCore(None, log_level=logging.INFO) for _ in range(2)]
now = core.ProcessingCore, core.PtychoPINNReconstructorLibrary, core.ModelCore.batch_mode_execute
api = models[1].processing_core.processing_api
print('REPORT', json.dumps({{
    'algorithms': list(api.available_reconstructors()),
    'chosen': models[1].processing_core.algorithm_parameter.get_value(),
    'untouched': original == now,
    'loaded': [n for n in ('torch', 'tensorflow', 'keras', 'PyQt5') if n in sys.modules],
    'groups': [n for n in models[1].settings_registry if n.startswith('PtychoPINN')],
    'wrapped': getattr(now[2], '__wrapped__', None) is original[2],
    'readers': [x.display_name for x in models[1].plugin_registry.diffraction_file_readers],
    'hooks': sum(type(f).__module__.startswith('ptychopinn') for f in sys.meta_path),
}}))
"""


LARGEST_SHARE = 0.25
"""Of the CPU time of Ptychodus' own start; a framework that came with ours would take as long as that."""

FORKS = """
import json, os, sys, traceback
import ptychodus.model.core
for line in sys.stdin:
    task = json.loads(line)
    child = os.fork()
    if not child:
        log = os.open(task['log'], os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        os.environ.update(task['variables'])
        try:
            exec(task['code'], {'__name__': '__main__'})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope='module')
def fork(
    python: Run, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Finished]]:
    """Return a function that runs code in a process of its own, which has imported Ptychodus' model already.

    The import takes seconds, is alike for all, and happens before plugins are looked for.
    """
    if not hasattr(os, 'fork'):
        yield lambda code, **variables: python('-c', code, **variables)
        return
    folder = tmp_path_factory.mktemp('forks')
    pipe = subprocess.PIPE
    parent = subprocess.Popen(
        [sys.executable, '-c', FORKS], env=environment, stdin=pipe, stdout=pipe, text=True
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    stdin, stdout = parent.stdin, parent.stdout
    logs = (folder / f'{number}.txt' for number in itertools.count())

    def run(code: str, **variables: str) -> Finished:
        log = next(logs)
        print(json.dumps({'code': code, 'log': str(log), 'variables': variables}), file=stdin, flush=True)
        return Finished(int(stdout.readline()), log.read_text())

    with parent:
        yield run


def look(fork: Run, before: str = '', **variables: str) -> tuple[dict[str, object], Finished]:
    run = fork(LOOK.format(before=before), **variables)
    assert run.code == 0, run.log
    (line,) = run.lines('REPORT')
    return json.loads(line.split('REPORT', 1)[1]), run


def test_the_algorithms_are_listed_and_one_is_chosen(fork: Run) -> None:
    """API-01, API-03, API-04, API-11: twice started, once installed; no framework and no Qt in the parent."""
    report, _ = look(fork)
    assert report['algorithms'] == OURS
    assert report['chosen'] == OURS[0]
    assert report['loaded'] == []
    assert report['wrapped']
    assert report['hooks'] == 1
    readers = report['readers']
    assert isinstance(readers, list)
    assert readers.count('PtychoPINN Scan (*.h5 *.npz)') == 1
    assert {'PtychoPINNModel', 'PtychoPINNTraining', 'PtychoPINNInference', 'PtychoPINNEngine'} <= set(
        report['groups']  # type: ignore[call-overload]
    )


def test_the_start_of_ptychodus_takes_hardly_longer(python: Run) -> None:
    """API-16: CPU time beside that of Ptychodus in the same run; of two, for the first one compiles."""
    code = (
        'import time, ptychodus.model.core; from ptychodus.api.settings import SettingsRegistry; '
        'theirs = time.process_time(); from ptychopinn_ptychodus.install import install; install(); '
        'ptychodus.model.core.PtychoPINNReconstructorLibrary(SettingsRegistry(), False); '
        'print("SHARE", (time.process_time() - theirs) / theirs)'
    )
    shares = []
    for _ in range(2):
        (line,) = python('-c', code, PYTHONDONTWRITEBYTECODE='').lines('SHARE')
        shares.append(float(line.split()[1]))
    assert min(shares) < LARGEST_SHARE


def test_unsupported_release_is_left_as_it_is(fork: Run) -> None:
    """API-06."""
    before = 'import ptychopinn_ptychodus.compat as c; c._NEEDED += ("ptychodus.api.not_there",)'
    report, run = look(fork, before)
    assert report['untouched']
    assert report['algorithms'] == []
    assert len(run.lines('[WARNING] ptychopinn')) == 1


def test_error_in_our_code_does_not_stop_ptychodus(fork: Run) -> None:
    """API-07."""
    before = 'import ptychopinn_ptychodus.install as i; i.install = lambda: 1 / 0'
    report, run = look(fork, before)
    assert report['untouched']
    assert len(run.lines('[WARNING] ptychopinn')) == 2  # one for each start in this process


def test_switch_leaves_ptychodus_as_it_is(fork: Run) -> None:
    """API-05."""
    report, run = look(fork, PTYCHOPINN_PTYCHODUS='off')
    assert report['untouched']
    assert report['algorithms'] == []
    assert not run.lines('[WARNING] ptychopinn')


def test_importing_the_package_loads_no_framework(fork: Run) -> None:
    """API-04."""
    code = (
        'import sys, ptychopinn_ptychodus, ptychopinn_ptychodus.library, ptychopinn_ptychodus.worker; '
        'print([n for n in ("torch", "tensorflow", "PyQt5") if n in sys.modules])'
    )
    run = fork(code)
    assert run.log.strip().endswith('[]'), run.log


def test_uninstalling_takes_the_plugin_file_away() -> None:
    """API-08: the installer's record names it, and nothing else inside Ptychodus."""
    try:
        files = importlib.metadata.files('ptychopinn-ptychodus') or []
    except importlib.metadata.PackageNotFoundError:
        absent('The package is not installed; pip install -e .')
    inside = [str(f) for f in files if f.parts[0] == 'ptychodus' and '__pycache__' not in f.parts]
    assert inside == [f'ptychodus/plugins/{PLUGIN}']


def test_launcher_findings(fork: Run) -> None:
    """API-09."""
    code = (
        'from ptychopinn_ptychodus.commands import examine; f = examine(); '
        'print("OK" if f.ok else f, f.plugin)'
    )
    run = fork(code)
    assert run.lines('OK', PLUGIN), run.log


def test_launcher_needs_no_plugin_file(python: Run, scan_copy: Path, tmp_path: Path) -> None:
    """API-09: it installs by itself, so a folder that Ptychodus does not search is no obstacle."""
    code = (
        'import sys; sys.argv = ["ptychodus", "-b", "reconstruct", "-i", sys.argv[1], "-o", sys.argv[2]]; '
        'from ptychopinn_ptychodus.commands import gui_main; print("CODE", gui_main())'
    )
    from scan_maker import write_settings

    write_settings(scan_copy, {'PtychoPINNInference': {'ModelPath': '/nowhere/model.zip'}})
    run = python('-c', code, scan_copy, tmp_path / 'OUT', PTYCHOPINN_PTYCHODUS='off')
    assert run.lines('CODE 1'), run.log
    assert run.lines('There is no model at /nowhere'), run.log


def test_doctor_sees_the_plugin_and_the_algorithms(python: Run) -> None:
    """API-09."""
    run = python('-m', 'ptycho_engine', 'doctor', '--thorough')
    assert run.code == 0, run.log
    words = ' '.join(run.log.split())
    assert f'plugins/{PLUGIN}' in words
    assert 'Ptychodus lists PtychoPINN / PINN, Supervised and Physics' in words


def test_cfg_24_doctor_sees_the_plugin_without_starting_ptychodus(python: Run) -> None:
    code = (
        'import sys; from ptycho_engine.commands import main; code = main(["doctor"]); '
        'print("LOADED", [n for n in ("ptychodus", "torch", "tensorflow") if n in sys.modules]); '
        'sys.exit(code)'
    )
    run = python('-c', code)
    assert run.code == 0, run.log
    words = ' '.join(run.log.split())
    assert 'LOADED []' in words
    assert f'plugins/{PLUGIN}' in words
    assert 'lists PtychoPINN' not in words
    assert 'All is well' not in words
    assert 'works on' not in words


def test_doctor_stops_at_a_missing_plugin_file(python: Run) -> None:
    """API-09: the file is looked for where Ptychodus looks, and the way to correct it is named."""
    run = python(
        '-c',
        'import sys; from ptychopinn_ptychodus import commands; commands.PLUGIN_FILE = "not_there.py"; '
        'from ptycho_engine.commands import main; sys.exit(main(["doctor"]))',
    )
    assert run.code == 1, run.log
    words = ' '.join(run.log.split())
    assert 'STOP plugin missing: Ptychodus looks for' in words
    assert '"ptychopinn link"' in words


def test_doctor_stops_where_the_plugin_is_switched_off(python: Run) -> None:
    """API-09."""
    code = (
        'import sys; from ptycho_engine.commands import main; '
        # What the frameworks compute is another matter, which takes ten seconds.
        'from ptycho_engine.diagnostics import installation as i; i._backends = i.installed_frameworks; '
        'print("CODES", main(["doctor"]), main(["doctor", "--thorough"]))'
    )
    run = python('-c', code, PTYCHOPINN_PTYCHODUS=' Off')
    assert run.lines('CODES 1 1'), run.log
    assert ' '.join(run.log.split()).count('STOP plugin switched off; unset PTYCHOPINN_PTYCHODUS') == 2


def test_the_plugin_file_and_doctor_agree_when_it_is_off() -> None:
    """API-05."""
    from ptychopinn_ptychodus import compat
    from ptychopinn_ptychodus.plugins import ptychopinn_reconstructor

    assert ptychopinn_reconstructor.OFF == compat.OFF


def test_what_a_log_line_quotes_cannot_forge_another(fork: Run) -> None:
    """TEXT-02: names from files in the log of the window; stdout without our characters is no traceback."""
    code = (
        'import logging, sys; sys.stdout.reconfigure(encoding="ascii", errors="strict"); '
        'import ptychodus.model.core as core; core.ModelCore(None, log_level=20); '
        "log = logging.getLogger('ptychopinn'); "
        "log.info('Model %s of %d×%d', chr(27) + '[31m' + chr(10) + '[ERROR] forged', 64, 64); "
        "logging.getLogger('others').info('as %s', chr(9) + 'ever')"
    )
    run = fork(code)
    assert run.code == 0, run.log
    assert r'Model \x1b[31m\n[ERROR] forged of 64\xd764' in run.log
    assert 'as \tever' in run.log
    assert 'Logging error' not in run.log
