"""Make the picture of a live session's page: ``python docs/live_picture.py``; needs a Chromium.

A simulated scan is played at 50 frames a second, and its page is grabbed shortly before the scan ends.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

from small_png import write_small

HERE = Path(__file__).resolve().parent
TARGET = HERE / 'pictures' / 'live.png'
SIZE_PX = 1000, 640
POINTS, RATE, AT = 300, 30, 190
"""Frames of the scan, frames a second, and frames in the image when the picture is made."""
SETTLE_MS = 3000
PTYCHOPINN = [sys.executable, '-m', 'ptycho_engine']


def states(port: int) -> Generator[dict[str, object], None, None]:
    """Yield what the page is told, until the run ends."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    connection.request('GET', '/events')
    answer = connection.getresponse()
    while line := answer.readline():
        if line.startswith(b'data: '):
            yield json.loads(line[6:])


def main() -> None:
    """Play the scan and grab the page."""
    from PIL import Image

    browser = next((found for name in ('chromium', 'google-chrome') if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit('There is no chromium.')
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*PTYCHOPINN, 'simulate', '--points', str(POINTS), '--seed', '1', '--output', 'IN', '--quiet'],
            cwd=folder,
            check=True,
        )
        words = ['live', '--replay', 'IN', '--rate', str(RATE), '--output', 'out', '--web', '0']
        run = subprocess.Popen([*PTYCHOPINN, *words], cwd=folder, stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        address = run.stdout.readline().split()[-1]
        port = int(address.rstrip('/').rsplit(':', 1)[1])
        # Images are sent as long as somebody looks: this goes on until the browser does.
        looking = states(port)
        for state in looking:
            if int(str(state.get('used', 0))) >= AT:
                break
        picture = Path(folder) / 'page.png'
        subprocess.run(
            [
                *(browser, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars'),
                *(f'--window-size={SIZE_PX[0]},{SIZE_PX[1]}', f'--timeout={SETTLE_MS}'),
                *(f'--screenshot={picture}', address),
            ],
            check=True,
            timeout=120,
            stderr=subprocess.DEVNULL,
        )
        looking.close()
        run.terminate()
        run.wait()
        with Image.open(picture) as image:
            write_small(image, TARGET)
    print(f'{TARGET.relative_to(HERE.parent)}: {TARGET.stat().st_size / 1000:.0f} kB')


if __name__ == '__main__':
    main()
