"""Scans that were made to harm their reader end in one sentence, soon and in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if not hasattr(os, 'fork'):
    pytest.skip('each scan is read in a fork', allow_module_level=True)

from tests.formats.hostile_scans import MADE

ROOT = Path(__file__).parents[2]
MEMORY_MB = 300
CPU_S = 10
"""Of CPU time, where 0.2 is usual; what has no bound takes minutes."""


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    found = subprocess.run(
        [sys.executable, '-m', 'tests.formats.hostile_scans', str(tmp_path_factory.mktemp('hostile'))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout)


@pytest.mark.parametrize('name', MADE)
def test_mem_10_a_hostile_scan_is_one_sentence(results, name):
    found = results[name]
    assert (found['code'], found['signal']) == (2, 0), found
    (line,) = found['stderr'].splitlines()
    assert line.startswith('ptychopinn prepare: ')
    assert line.isprintable()
    for advice in ('allow_pickle', 'max_header_size', 'set_int_max_str_digits', ' object at 0x'):
        assert advice not in line
    assert len(line) < 1000
    assert found['memory_mb'] < MEMORY_MB
    assert found['cpu_s'] < CPU_S
    assert found['opened'] == []
    assert found['left'] == []
