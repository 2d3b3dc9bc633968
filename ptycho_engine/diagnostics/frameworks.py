"""What files tell of PyTorch, TensorFlow and GPUs: nothing of them is imported, which takes seconds each."""

from __future__ import annotations

import ast
import csv
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..backends.base import FRAMEWORKS, why_unavailable
from .findings import Finding, Grade

__all__ = ['framework_version', 'installed_frameworks', 'nvidia_gpus']

DISTRIBUTIONS = {'pytorch': ('torch',), 'tensorflow': ('tensorflow', 'tensorflow-cpu')}
BUILDS = {'cuda': 'CUDA', 'hip': 'ROCm', 'xpu': 'XPU'}
"""What a PyTorch is built for, by the names of its ``version.py``."""
LIST_GPUS = ('nvidia-smi', '--query-gpu=name,memory.total,driver_version', '--format=csv,noheader')
PATIENCE_S = 20.0
VISIBLE = 'CUDA_VISIBLE_DEVICES'


def installed_frameworks() -> Iterator[Finding]:
    """Yield which frameworks are there, in which version, and whether there is a GPU for them."""
    there = []
    for backend, (title, _, command) in FRAMEWORKS.items():
        if why_unavailable(backend):
            yield Finding(Grade.FINE, title, f'not installed; {command} to use the backend {backend}.')
            continue
        there.append(backend)
        build = f', built for {_torch_build()}' if backend == 'pytorch' else ''
        yield Finding(Grade.FINE, title, f'{framework_version(backend)} is installed{build}.')
    if not there:
        yield Finding(Grade.STOP, 'backend', 'no backend is installed; pip install torch.')
        return
    yield _gpu('pytorch' in there)


def framework_version(backend: str) -> str:
    """Return the version of a backend's framework, as its installer has recorded it."""
    for name in DISTRIBUTIONS[backend]:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return 'of unknown version'


def nvidia_gpus() -> list[str]:
    """Return name, memory and driver of each GPU that NVIDIA's driver lists."""
    try:
        done = subprocess.run(LIST_GPUS, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    return [
        f'{row[0]} ({row[1]}, driver {row[2]})' for row in rows if len(row) == len(('name', 'MiB', 'driver'))
    ]


def _gpu(with_torch: bool) -> Finding:
    gpus, build = nvidia_gpus(), _torch_build() if with_torch else ''
    if not gpus:
        if platform.system() == 'Darwin' and platform.machine() == 'arm64':
            return Finding(Grade.FINE, 'GPU', 'that of Apple silicon.')
        return Finding(Grade.FINE, 'GPU', 'none is listed by a driver of NVIDIA (nvidia-smi).')
    text = '; '.join(gpus)
    if VISIBLE in os.environ:
        text += f'; {VISIBLE}={os.environ[VISIBLE]} is what a run sees of them'
    if build and 'CUDA' not in build:
        text += (
            f'. This PyTorch is built for {build} and cannot use it; take the build for CUDA of pytorch.org'
        )
        return Finding(Grade.CAUTION, 'GPU', f'{text}.')
    return Finding(Grade.FINE, 'GPU', f'{text}.')


def _torch_build() -> str:
    """Return for what PyTorch was built, by the file in which it keeps its version."""
    spec = importlib.util.find_spec('torch')
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    stated: dict[str, Any] = {}
    for folder in folders:
        try:
            tree = ast.parse((Path(folder) / 'version.py').read_text(encoding='utf-8'))
        except (OSError, SyntaxError, ValueError):
            continue
        stated.update(_assigned(tree))
    built = [f'{title} {stated[name]}' for name, title in BUILDS.items() if stated.get(name)]
    if built:
        return ' and '.join(built)
    return 'CPUs alone' if 'cuda' in stated else 'what is unknown'


def _assigned(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """Yield the names to which a module assigns a constant, and that."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
        value = getattr(node, 'value', None)
        if isinstance(value, ast.Constant):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, value.value
