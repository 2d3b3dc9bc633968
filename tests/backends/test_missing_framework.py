"""With one framework missing, all that needs the other works, and the message says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """
import importlib.machinery
import sys

blocked, missing, present, folder = sys.argv[1].split(','), *sys.argv[2:]


class WithoutBlocked(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition('.')[0] in blocked else super().find_spec(name, path, target)


finders = sys.meta_path
finders[finders.index(importlib.machinery.PathFinder)] = WithoutBlocked
import ptycho_engine
from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.scan.scan import Scan
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.training.train import train
from tests.conftest import small_scan

for name in ptycho_engine.__all__:
    getattr(ptycho_engine, name)
scan = Scan.from_raw(small_scan(points=4, size=32))
model = ModelConfig(n_filters_scale=1, architecture='cnn')
config = TrainingConfig(model=model, nepochs=1, n_groups=8, backend=present)
execution = PyTorchExecutionConfig(accelerator='cpu')
*_, saved = train([scan], config, folder, execution=execution)
*_, last = reconstruct(scan, load_archive(folder), InferenceConfig(backend=present), execution=execution)
assert last.reconstruction.backend == present
try:
    create_backend(missing)
except RuntimeError as error:
    print(error)
assert not set(sys.modules) & set(blocked)
# A second for nothing: no step is compiled.
assert 'torch._dynamo' not in sys.modules
"""


@pytest.mark.parametrize(
    ('blocked', 'missing', 'present', 'message'),
    [
        (
            'torch',
            'pytorch',
            'tensorflow',
            'PyTorch backend selected but torch is not installed; run: pip install torch',
        ),
        (
            'tensorflow,keras',
            'tensorflow',
            'pytorch',
            (
                'TensorFlow backend selected but tensorflow is not installed; run: '
                'pip install "tensorflow>=2.21"'
            ),
        ),
    ],
)
def test_back_03_the_other_framework_does_everything(tmp_path, blocked, missing, present, message):
    done = subprocess.run(
        [sys.executable, '-c', CODE, blocked, missing, present, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == message, done.stderr[-3000:]
    # A framework that looks for devices keeps what it finds to itself.
    assert done.stderr == ''
