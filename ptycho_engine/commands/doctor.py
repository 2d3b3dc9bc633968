"""Look at the installation and at data, and say in plain words what would go wrong.

Python, backends and devices (each computes something), memory and disk, Ptychodus and its plugin. With DATA,
an NPZ file or a Ptychodus directory: sizes, units, light, probe, positions, overlap, and whether patterns,
probe and positions agree. Lines marked "caution" say what makes results worse, lines marked "STOP" what would
end a run; with one of these the exit code is 1.

examples:
  ptychopinn doctor
  ptychopinn doctor scan.npz
  ptychopinn doctor --data-only scans/
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ..examine.findings import Finding, Grade
from .host import HostError, host_commands
from .options import add_stated, add_verify, stated
from .paragraph import beside, say

EXIT_TROUBLE = 1
MARK_WIDTH, TOPIC_WIDTH = 8, 15
LAST_WORDS = {
    Grade.FINE: 'All is well.',
    Grade.CAUTION: 'Nothing would stop a run; mind the cautions above.',
    Grade.STOP: 'Mend what is marked STOP above.',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn doctor``."""
    parser.add_argument('data', nargs='*', type=Path, metavar='DATA', help='scans to look at')
    parser.add_argument('--data-only', action='store_true', help='do not look at the installation')
    add_verify(parser)
    add_stated(parser)


def run(options: argparse.Namespace) -> int:
    """Print every finding as it comes; returns 1 if one of them would stop a run."""
    worst = Grade.FINE
    if not options.data_only:
        for finding in _installation():
            worst = _show(finding, worst, options.quiet)
    if options.data:
        from ..examine.data import examine_path

        last = None
        for path in options.data:
            for name, finding in examine_path(path, verify=options.verify, **stated(options)):
                if name != last and not options.quiet:
                    say('', name)
                last = name
                worst = _show(finding, worst, options.quiet)
    say(LAST_WORDS[worst])
    return EXIT_TROUBLE if worst is Grade.STOP else 0


def _installation() -> Iterator[Finding]:
    from ..examine.installation import examine_installation

    yield from examine_installation()
    try:
        commands = host_commands()
    except HostError as error:
        yield Finding(Grade.CAUTION, 'Ptychodus', str(error))
        return
    yield from _ptychodus(commands.examine())


def _ptychodus(findings: object) -> Iterator[Finding]:
    for grade, topic, text in findings.report():  # type: ignore[attr-defined]
        yield Finding(Grade(grade), topic, text)


def _show(finding: Finding, worst: Grade, quiet: bool) -> Grade:
    grades = list(Grade)
    if not (quiet and finding.grade is Grade.FINE):
        head = f'{finding.grade:<{MARK_WIDTH}}{finding.topic:<{TOPIC_WIDTH}}'
        say(*beside(head, finding.text))
    return max(worst, finding.grade, key=grades.index)
