"""Which backends and devices can be chosen on this machine, and why not the others; imports no framework."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ptycho_engine.backends.base import FRAMEWORKS, why_unavailable
from ptycho_engine.config.execution import ACCELERATORS
from ptycho_engine.errors import BackendUnavailableError

__all__ = ['backend_obstacles', 'computes_on', 'device_obstacles', 'require_backend']


def backend_obstacles() -> Mapping[str, str]:
    """Return for each backend that is not installed why it cannot be chosen."""
    return {name: why for name in FRAMEWORKS if (why := why_unavailable(name))}


def require_backend(name: str) -> None:
    """Check that a backend is installed, before a child is started for it.

    Raises
    ------
    BackendUnavailableError
        With the command that installs it.
    """
    why = backend_obstacles().get(name)
    if why:
        raise BackendUnavailableError(why)


def device_obstacles(backend: str) -> Mapping[str, str]:
    """Return for each device that a backend cannot compute on here the reason.

    What the installed build can do is read from its own files; whether there is a GPU is asked of the
    operating system.
    """
    title = FRAMEWORKS[backend][0] if backend in FRAMEWORKS else backend
    obstacles = {}
    cuda = _why_no_cuda(backend, title)
    if cuda:
        obstacles['cuda'] = cuda
    mps = _why_no_mps(backend)
    if mps:
        obstacles['mps'] = mps
    if cuda and mps:
        obstacles['gpu'] = cuda
    return {name: obstacles[name] for name in ACCELERATORS if name in obstacles}


def computes_on(backend: str, accelerator: str) -> str:
    """Return 'CPU' or 'GPU': what a choice of device comes to on this machine."""
    if accelerator == 'cpu' or (accelerator == 'auto' and 'gpu' in device_obstacles(backend)):
        return 'CPU'
    return 'GPU'


def _why_no_cuda(backend: str, title: str) -> str | None:
    if backend not in FRAMEWORKS or why_unavailable(backend):
        return f'{title} is not installed'
    if not _built_for_gpu(backend):
        return f'the installed {title} is a build for the CPU only'
    if not _has_gpu():
        return 'this machine has no NVIDIA or AMD GPU with a driver'
    return None


def _why_no_mps(backend: str) -> str | None:
    if (platform.system(), platform.machine()) != ('Darwin', 'arm64'):
        return 'only Apple computers have it'
    return None if backend == 'pytorch' else 'only the PyTorch backend can use it'


@cache
def _built_for_gpu(backend: str) -> bool:
    """Return whether an installed framework was built for CUDA or ROCm; True where that is not known."""
    package, file, pattern = {
        'pytorch': ('torch', 'version.py', r'^(?:cuda|hip)\b[^=\n]*= *[\'"]'),
        'tensorflow': ('tensorflow', 'python/platform/build_info.py', r'is_(?:cuda|rocm)_build["\']?, *True'),
    }[backend]
    spec = find_spec(package)
    folder = (
        None if spec is None or not spec.submodule_search_locations else spec.submodule_search_locations[0]
    )
    try:
        text = (Path(folder or '') / file).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError):
        return True
    return re.search(pattern, text, re.MULTILINE) is not None


@cache
def _has_gpu() -> bool:
    """Return whether the operating system knows a GPU for computing; True where it cannot be asked."""
    system = platform.system()
    if system != 'Linux':
        return system != 'Darwin'
    devices = ('/dev/nvidiactl', '/dev/nvidia0', '/dev/dxg', '/dev/kfd')
    return any(Path(device).exists() for device in devices)
