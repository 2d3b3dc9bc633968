"""The window of the other supported releases of Ptychodus, with the stories of ``test_window.py``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_table import release_scan
from conftest import HERE, STORY_S, runner, write_models
from releases import SUPPORTED, environment_of, unpack
from test_window_training import (
    test_the_story_of_the_queue,
    test_twelve_rows_are_in_sight,
)
from window_checks import (
    check_frameless,
    check_looks,
    check_models,
    check_run,
    check_untrained,
    check_wrong_data,
)

__all__ = [
    # Played here in each of the other releases.
    'test_the_story_of_the_queue',
    'test_twelve_rows_are_in_sight',
]

pytestmark = [
    pytest.mark.ptychodus,
    pytest.mark.gui,
    pytest.mark.releases,
    pytest.mark.usefixtures('window_libraries'),
]

Report = dict[str, Any]


@pytest.fixture(scope='module', params=SUPPORTED[:-1])
def tell(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Report]:
    """Return a function that plays a story in a release and returns its report."""
    release = request.param
    folder = tmp_path_factory.mktemp(f'window-{release}')
    paths = environment_of(unpack(release, folder / 'tree', plugin=True), environment)
    scan = write_models(release_scan(folder / 'IN', release, {'PtychoPINNEngine': {'NumGroups': '32'}}))

    def play(story: str, *first_on_path: Path) -> Report:
        work = tmp_path_factory.mktemp(story)
        path = os.pathsep.join([*map(str, first_on_path), paths['PYTHONPATH']])
        # Speeds that another story has measured would be shown.
        cache = tmp_path_factory.mktemp('cache')
        variables = {**paths, 'PYTHONPATH': path, 'XDG_CACHE_HOME': str(cache)}
        run = runner(sys.executable, variables, STORY_S)(HERE / 'window_driver.py', story, scan, work)
        assert run.code == 0, run.log
        report: Report = json.loads((work / 'report.json').read_text())
        assert Path(report['ptychodus']).is_relative_to(folder)
        return {**report, 'work': work}

    return play


def test_the_stories_of_a_session(tell: Callable[..., Report]) -> None:
    """Train, watch, stop, go on, infer, save, open again; wrong data; models of another probe and size."""
    report = tell('release')
    check_run(report['run'])
    check_wrong_data(report['wrong_data'])
    check_models(report['models'])
    assert report['frameworks'] == []
    assert report['children_left'] == 0


def test_the_story_without_training(tell: Callable[..., Report]) -> None:
    """API-88, API-89."""
    check_untrained(tell('untrained'))


def test_what_is_drawn_and_said_without_a_run(tell: Callable[..., Report]) -> None:
    """API-81 (Object page), API-84 to API-87."""
    check_looks(tell('looks'))


def test_the_story_without_a_framework(tell: Callable[..., Report]) -> None:
    check_frameless(tell('frameless', HERE / 'frameless'))
