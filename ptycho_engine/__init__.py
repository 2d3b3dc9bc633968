"""PtychoPINN engine: data, physics, network, training, reconstruction and files.

The engine knows nothing of Ptychodus, and importing it loads neither PyTorch nor TensorFlow: the public
names below are resolved when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
# Not from `typing`, which alone takes long enough for the Ctrl-C of an impatient user to fall into.
if TYPE_CHECKING:
    from typing import Any

__version__ = '0.1.0'

_PUBLIC = {
    'ArchiveError': 'errors',
    'BackendUnavailableError': 'errors',
    'BatchDone': 'events',
    'ConfigError': 'errors',
    'EngineError': 'errors',
    'EpochDone': 'events',
    'Evaluation': 'pipeline.evaluate',
    'ExportMeta': 'files.product_exchange',
    'InferenceConfig': 'config',
    'InferencePayload': 'config.factory',
    'MemmapDatasetBridge': 'data.memmap',
    'ModelArchive': 'files.archive',
    'ModelConfig': 'config',
    'ModelSaved': 'events',
    'ObjectGrid': 'physics.geometry',
    'ObjectVariety': 'pipeline.simulated',
    'PartialObject': 'events',
    'PatchesDone': 'events',
    'ProductData': 'files.product',
    'ProductError': 'errors',
    'PtychoDataContainer': 'data.container',
    'PtychoDataContainerTorch': 'data.container',
    'PyTorchExecutionConfig': 'config',
    'RawData': 'data.raw_data',
    'RawDataTorch': 'data.container',
    'Reconstructed': 'events',
    'Reconstruction': 'pipeline.result',
    'ScaleRecord': 'physics.scaling',
    'Scan': 'data.scan',
    'SimulatedScans': 'pipeline.simulated',
    'TrainingConfig': 'config',
    'TrainingPayload': 'config.factory',
    'bin_scan': 'data.pretreatment',
    'build_groups': 'data.grouping',
    'create_inference_payload': 'config.factory',
    'create_training_payload': 'config.factory',
    'crop_scan': 'data.pretreatment',
    'evaluate': 'pipeline.evaluate',
    'export_product_from_rawdata': 'files.product_exchange',
    'find_violations': 'files.product_validation',
    'import_product_to_rawdata': 'files.product_exchange',
    'infer_probe_size': 'config.factory',
    'load_archive': 'files.archive',
    'load_config': 'config.files',
    'load_scan': 'data.scan',
    'load_templates': 'simulate.template',
    'load_training_scans': 'data.scan',
    'make_fixture': 'files.fixture',
    'populate_legacy_params': 'config.legacy',
    'read_object': 'pipeline.evaluate',
    'read_product': 'files.product',
    'reconstruct': 'pipeline.reconstruct',
    'reconstruct_from_payload': 'pipeline.payload',
    'save_archive': 'files.archive',
    'save_config': 'config.files',
    'scan_from_frames': 'data.frames',
    'simulate_scan': 'simulate',
    'train': 'pipeline.train',
    'train_from_payload': 'pipeline.payload',
    'write_product': 'files.product',
}

_MODULES = {'config_bridge': 'config.bridge', 'config_factory': 'config.factory'}

__all__ = ['__version__', *sorted([*_PUBLIC, *_MODULES])]

if TYPE_CHECKING:
    from .config import InferenceConfig as InferenceConfig
    from .config import ModelConfig as ModelConfig
    from .config import PyTorchExecutionConfig as PyTorchExecutionConfig
    from .config import TrainingConfig as TrainingConfig
    from .config.factory import InferencePayload as InferencePayload
    from .config.factory import TrainingPayload as TrainingPayload
    from .config.factory import create_inference_payload as create_inference_payload
    from .config.factory import create_training_payload as create_training_payload
    from .config.factory import infer_probe_size as infer_probe_size
    from .config.files import load_config as load_config
    from .config.files import save_config as save_config
    from .config.legacy import populate_legacy_params as populate_legacy_params
    from .data.container import PtychoDataContainer as PtychoDataContainer
    from .data.container import PtychoDataContainerTorch as PtychoDataContainerTorch
    from .data.container import RawDataTorch as RawDataTorch
    from .data.frames import scan_from_frames as scan_from_frames
    from .data.grouping import build_groups as build_groups
    from .data.memmap import MemmapDatasetBridge as MemmapDatasetBridge
    from .data.pretreatment import bin_scan as bin_scan
    from .data.pretreatment import crop_scan as crop_scan
    from .data.raw_data import RawData as RawData
    from .data.scan import Scan as Scan
    from .data.scan import load_scan as load_scan
    from .data.scan import load_training_scans as load_training_scans
    from .errors import ArchiveError as ArchiveError
    from .errors import BackendUnavailableError as BackendUnavailableError
    from .errors import ConfigError as ConfigError
    from .errors import EngineError as EngineError
    from .errors import ProductError as ProductError
    from .events import BatchDone as BatchDone
    from .events import EpochDone as EpochDone
    from .events import ModelSaved as ModelSaved
    from .events import PartialObject as PartialObject
    from .events import PatchesDone as PatchesDone
    from .events import Reconstructed as Reconstructed
    from .files.archive import ModelArchive as ModelArchive
    from .files.archive import load_archive as load_archive
    from .files.archive import save_archive as save_archive
    from .files.fixture import make_fixture as make_fixture
    from .files.product import ProductData as ProductData
    from .files.product import read_product as read_product
    from .files.product import write_product as write_product
    from .files.product_exchange import ExportMeta as ExportMeta
    from .files.product_exchange import export_product_from_rawdata as export_product_from_rawdata
    from .files.product_exchange import import_product_to_rawdata as import_product_to_rawdata
    from .files.product_validation import find_violations as find_violations
    from .physics.geometry import ObjectGrid as ObjectGrid
    from .physics.scaling import ScaleRecord as ScaleRecord
    from .pipeline.evaluate import Evaluation as Evaluation
    from .pipeline.evaluate import evaluate as evaluate
    from .pipeline.evaluate import read_object as read_object
    from .pipeline.payload import reconstruct_from_payload as reconstruct_from_payload
    from .pipeline.payload import train_from_payload as train_from_payload
    from .pipeline.reconstruct import reconstruct as reconstruct
    from .pipeline.result import Reconstruction as Reconstruction
    from .pipeline.simulated import ObjectVariety as ObjectVariety
    from .pipeline.simulated import SimulatedScans as SimulatedScans
    from .pipeline.train import train as train
    from .simulate import simulate_scan as simulate_scan
    from .simulate.template import load_templates as load_templates


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
