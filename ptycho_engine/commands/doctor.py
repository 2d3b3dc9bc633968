"""Look at the installation and at data for trouble."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..diagnostics.findings import Finding, Grade
from ..errors import ConfigError
from ..io.preflight import require_file_writable
from .host import HostError, host_commands
from .inputs import opening
from .paragraph import beside, say

EXIT_TROUBLE = 1
MARK_WIDTH, TOPIC_WIDTH = 8, 15
UNTRIED = 'Nothing is missing. Whether all of it works is tried by "ptychopinn doctor --thorough".'
LAST_WORDS = {
    Grade.FINE: 'All is well.',
    Grade.CAUTION: 'Nothing would stop a run; mind the cautions above.',
    Grade.WRONG: 'A run would go through, but its image would be wrong; correct what is marked WRONG above.',
    Grade.STOP: 'Correct what is marked STOP above.',
}


def run(options: argparse.Namespace) -> int:
    """Print every finding as it comes; returns 1 if one of them would stop a run or spoil its image."""
    if options.fix is not None:
        return _fix(options)
    report = _Report(options)
    if not options.data_only:
        for finding in _installation(options.thorough):
            report.add(finding)
    if options.data:
        from ..diagnostics.scan_checks import examine_path

        opened = opening(options)
        opened.require_one(options.data)
        for path in options.data:
            found = examine_path(path, opened.load, whole=opened.is_foreign(path), words=opened.words)
            for name, finding in found:
                report.add(finding, name)
    return report.end()


class _Report:
    """Findings, printed as they come or all at the end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._json, self._quiet = options.json, options.quiet
        self._untried = not options.data and not options.thorough
        self._last = ''
        self._listed: list[dict[str, Any]] = []
        self.worst = Grade.FINE

    def add(self, finding: Finding, name: str = '') -> None:
        """Take one finding, of a file or of the installation."""
        grades = list(Grade)
        self.worst = max(self.worst, finding.grade, key=grades.index)
        self._listed.append(
            {
                'file': name or None,
                'grade': str(finding.grade),
                'topic': finding.topic,
                'text': finding.text,
                **finding.values,
            }
        )
        if self._json:
            return
        if name and name != self._last and not self._quiet:
            say('', name)
        self._last = name
        if not (self._quiet and finding.grade is Grade.FINE):
            head = f'{finding.grade:<{MARK_WIDTH}}{finding.topic:<{TOPIC_WIDTH}}'
            say(*beside(head, finding.text))

    def end(self, **more: Any) -> int:
        """Say the last word; returns the exit code."""
        grades = list(Grade)
        bad = grades.index(self.worst) >= grades.index(Grade.WRONG)
        if self._json:
            say(json.dumps({'worst': str(self.worst), 'findings': self._listed, **more}))
        else:
            say(UNTRIED if self._untried and self.worst is Grade.FINE else LAST_WORDS[self.worst])
        return EXIT_TROUBLE if bad else 0


def _fix(options: argparse.Namespace) -> int:
    """Write a scan with what is wrong undone; returns 1 where that is not near noise."""
    from ..diagnostics.agreement import agreement_findings
    from ..diagnostics.changes import changed
    from ..diagnostics.diagnosis import diagnose
    from ..scan.scan import find_training_scans

    opened = opening(options)
    scans = [
        scan
        for path in options.data
        for scan in ([path] if opened.is_foreign(path) else find_training_scans(path))
    ]
    if len(scans) != 1:
        raise ConfigError(f'--fix repairs one scan, but {len(scans)} were given; name one.')
    if options.fix.suffix != '.npz':
        raise ConfigError(f'--fix is {options.fix}; a repaired scan is an NPZ file, give OUT.npz.')
    require_file_writable(options.fix, inputs=opened.files(scans[0]))
    raw = opened.load(scans[0]).raw
    report = _Report(options)
    diagnosis = diagnose(raw)
    for finding in agreement_findings(diagnosis, opened.words(scans[0])):
        report.add(finding, str(scans[0]))
    if diagnosis is None or not diagnosis.changes:
        code = report.end(written=None)
        _say_unless_json(options, f'Nothing in the file is to be changed; {options.fix} is not written.')
        return code
    done = [change.sentence for change in diagnosis.changes]
    repaired = changed(raw, diagnosis.changes)
    repaired = replace(repaired, metadata={**repaired.metadata, 'repaired': done})
    repaired.to_file(options.fix)
    report.end(written=str(options.fix))
    left = [cause.sentence for cause in diagnosis.causes if cause.change is None]
    _say_unless_json(options, f'Wrote {options.fix} with this undone: {"; ".join(done)}.')
    if left:
        _say_unless_json(options, f'Not undone, as the file cannot hold it: {"; ".join(left)}.')
    return 0 if diagnosis.solved and not left else EXIT_TROUBLE


def _say_unless_json(options: argparse.Namespace, line: str) -> None:
    if not options.json:
        say(line)


def _installation(thorough: bool) -> Iterator[Finding]:
    from ..diagnostics.installation import examine_installation

    yield from examine_installation(thorough=thorough)
    try:
        commands = host_commands()
    except HostError as error:
        yield Finding(Grade.CAUTION, 'Ptychodus', str(error))
        return
    yield from _ptychodus(commands.examine(start=thorough))


def _ptychodus(findings: object) -> Iterator[Finding]:
    for grade, topic, text in findings.report():  # type: ignore[attr-defined]
        yield Finding(Grade(grade), topic, text)
