"""PtychoPINN engine: data, physics, network, training, reconstruction and files.

The engine knows nothing of Ptychodus, and importing it loads neither PyTorch nor TensorFlow: the public
names below are resolved when they are first used.
"""

from __future__ import annotations

from .version import __version__

TYPE_CHECKING = False
# Not from `typing`, which alone takes long enough for the Ctrl-C of an impatient user to fall into.
if TYPE_CHECKING:
    from typing import Any

_PUBLIC = {
    'ArchiveError': 'errors',
    'BackendUnavailableError': 'errors',
    'BatchDone': 'events',
    'ConfigError': 'errors',
    'EngineError': 'errors',
    'EpochDone': 'events',
    'Evaluation': 'reconstruction.evaluate',
    'ExportMeta': 'scan.product_exchange',
    'InferenceConfig': 'config',
    'InferencePayload': 'upstream.config_factory',
    'MemmapDatasetBridge': 'upstream.memmap',
    'ModelArchive': 'formats.archive',
    'ModelConfig': 'config',
    'ModelSaved': 'events',
    'ObjectGrid': 'physics.geometry',
    'ObjectVariety': 'training.simulated',
    'PartialObject': 'reconstruction.result',
    'PatchesDone': 'events',
    'ProductData': 'formats.product',
    'ProductError': 'errors',
    'PtychoDataContainer': 'upstream.containers',
    'PtychoDataContainerTorch': 'upstream.containers',
    'PyTorchExecutionConfig': 'config',
    'RawData': 'scan.raw_data',
    'RawDataTorch': 'upstream.containers',
    'Reconstructed': 'reconstruction.result',
    'Reconstruction': 'reconstruction.result',
    'ScaleRecord': 'physics.scaling',
    'Scan': 'scan.scan',
    'SimulatedScans': 'training.simulated',
    'TrainingConfig': 'config',
    'TrainingPayload': 'upstream.config_factory',
    'bin_scan': 'scan.pretreatment',
    'build_groups': 'scan.grouping',
    'create_inference_payload': 'upstream.config_factory',
    'create_training_payload': 'upstream.config_factory',
    'crop_scan': 'scan.pretreatment',
    'evaluate': 'reconstruction.evaluate',
    'export_product_from_rawdata': 'scan.product_exchange',
    'find_violations': 'formats.product_validation',
    'import_product_to_rawdata': 'scan.product_exchange',
    'infer_probe_size': 'upstream.config_factory',
    'load_archive': 'formats.archive',
    'load_config': 'config.files',
    'load_scan': 'scan.scan',
    'load_templates': 'simulate.template',
    'load_training_scans': 'scan.scan',
    'make_fixture': 'upstream.fixture',
    'populate_legacy_params': 'upstream.legacy',
    'read_object': 'reconstruction.evaluate',
    'read_product': 'formats.product',
    'reconstruct': 'reconstruction.reconstruct',
    'reconstruct_from_payload': 'upstream.payload',
    'save_archive': 'formats.archive',
    'save_config': 'config.files',
    'scan_from_frames': 'scan.frames',
    'simulate_scan': 'simulate',
    'train': 'training.train',
    'train_from_payload': 'upstream.payload',
    'write_product': 'formats.product',
}

_MODULES = {'config_bridge': 'upstream.config_bridge', 'config_factory': 'upstream.config_factory'}

__all__ = ['__version__', *sorted([*_PUBLIC, *_MODULES])]

if TYPE_CHECKING:
    from .config import InferenceConfig as InferenceConfig
    from .config import ModelConfig as ModelConfig
    from .config import PyTorchExecutionConfig as PyTorchExecutionConfig
    from .config import TrainingConfig as TrainingConfig
    from .config.files import load_config as load_config
    from .config.files import save_config as save_config
    from .errors import ArchiveError as ArchiveError
    from .errors import BackendUnavailableError as BackendUnavailableError
    from .errors import ConfigError as ConfigError
    from .errors import EngineError as EngineError
    from .errors import ProductError as ProductError
    from .events import BatchDone as BatchDone
    from .events import EpochDone as EpochDone
    from .events import ModelSaved as ModelSaved
    from .events import PatchesDone as PatchesDone
    from .formats.archive import ModelArchive as ModelArchive
    from .formats.archive import load_archive as load_archive
    from .formats.archive import save_archive as save_archive
    from .formats.product import ProductData as ProductData
    from .formats.product import read_product as read_product
    from .formats.product import write_product as write_product
    from .formats.product_validation import find_violations as find_violations
    from .physics.geometry import ObjectGrid as ObjectGrid
    from .physics.scaling import ScaleRecord as ScaleRecord
    from .reconstruction.evaluate import Evaluation as Evaluation
    from .reconstruction.evaluate import evaluate as evaluate
    from .reconstruction.evaluate import read_object as read_object
    from .reconstruction.reconstruct import reconstruct as reconstruct
    from .reconstruction.result import PartialObject as PartialObject
    from .reconstruction.result import Reconstructed as Reconstructed
    from .reconstruction.result import Reconstruction as Reconstruction
    from .scan.frames import scan_from_frames as scan_from_frames
    from .scan.grouping import build_groups as build_groups
    from .scan.pretreatment import bin_scan as bin_scan
    from .scan.pretreatment import crop_scan as crop_scan
    from .scan.product_exchange import ExportMeta as ExportMeta
    from .scan.product_exchange import export_product_from_rawdata as export_product_from_rawdata
    from .scan.product_exchange import import_product_to_rawdata as import_product_to_rawdata
    from .scan.raw_data import RawData as RawData
    from .scan.scan import Scan as Scan
    from .scan.scan import load_scan as load_scan
    from .scan.scan import load_training_scans as load_training_scans
    from .simulate import simulate_scan as simulate_scan
    from .simulate.template import load_templates as load_templates
    from .training.simulated import ObjectVariety as ObjectVariety
    from .training.simulated import SimulatedScans as SimulatedScans
    from .training.train import train as train
    from .upstream.config_factory import InferencePayload as InferencePayload
    from .upstream.config_factory import TrainingPayload as TrainingPayload
    from .upstream.config_factory import create_inference_payload as create_inference_payload
    from .upstream.config_factory import create_training_payload as create_training_payload
    from .upstream.config_factory import infer_probe_size as infer_probe_size
    from .upstream.containers import PtychoDataContainer as PtychoDataContainer
    from .upstream.containers import PtychoDataContainerTorch as PtychoDataContainerTorch
    from .upstream.containers import RawDataTorch as RawDataTorch
    from .upstream.fixture import make_fixture as make_fixture
    from .upstream.legacy import populate_legacy_params as populate_legacy_params
    from .upstream.memmap import MemmapDatasetBridge as MemmapDatasetBridge
    from .upstream.payload import reconstruct_from_payload as reconstruct_from_payload
    from .upstream.payload import train_from_payload as train_from_payload


def __getattr__(name: str) -> Any:
    import importlib

    if name in _MODULES:
        return importlib.import_module(f'.{_MODULES[name]}', __name__)
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None
    return getattr(importlib.import_module(f'.{module}', __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC, *_MODULES])
