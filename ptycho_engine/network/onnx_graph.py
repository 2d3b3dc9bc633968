"""The learned prior as an ONNX graph, for TensorRT, onnxruntime and what else reads that format (ONNX-*).

Written by the package ``onnx`` from the layers of ``network/denoiser.py``, as the backends build theirs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from .denoiser import DENOISER, denoiser_layers
from .layer import Layer, walk
from .plan import SIDE_MULTIPLE

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, ValueInfoProto

__all__ = ['IR_VERSION', 'OPSET', 'prior_as_onnx', 'require_onnx']

OPSET, IR_VERSION = 17, 8
"""TensorRT from 8.6 and onnxruntime from 1.12 on read these."""

DESCRIPTION = (
    'A denoiser of complex images, told how much noise there is. Inputs: object (B, 2, H, W), real and '
    'imaginary part of images whose amplitude is about 1; deviation (B, 1, H, W), the standard deviation of '
    'their noise (root of the mean squared modulus), 0.005 to 1. Output: noise (B, 2, H, W), real and '
    f'imaginary part; object - noise is the denoised image. H and W are multiples of {SIDE_MULTIPLE}. '
    'All float32.'
)


def require_onnx() -> None:
    """Refuse to go on where the package ``onnx`` is not installed.

    Raises
    ------
    ConfigError
        With the command that installs it.
    """
    if importlib.util.find_spec('onnx') is None:
        raise ConfigError('An ONNX file is written by the package onnx, not installed; pip install onnx.')


def prior_as_onnx(weights: Mapping[str, npt.NDArray[np.float32]], facts: Mapping[str, str]) -> bytes:
    """Return the bytes of an ONNX file; equal contents give equal bytes.

    Parameters
    ----------
    weights : mapping
        Canonical weights of 'prior' (:meth:`~.plan.NetworkPlan.weight_shapes`).
    facts : mapping
        What the file is to say of itself, as ``metadata_props``.

    Raises
    ------
    ConfigError
        If the package ``onnx`` is not installed.
    """
    require_onnx()
    from onnx import TensorProto, checker, helper

    layers = denoiser_layers()
    graph = _Graph(weights)
    features = graph.features()
    relative = walk(layers, {op: getattr(graph, op) for op in {layer.op for layer in layers}}, features)
    graph.add('Mul', relative, 'deviation', name='noise')

    def image(name: str, channels: int) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ['B', channels, 'H', 'W'])

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            'ptychopinn_prior',
            [image('object', 2), image('deviation', 1)],
            [image('noise', 2)],
            graph.constants,
        ),
        producer_name='ptychopinn-ptychodus',
        doc_string=DESCRIPTION,
        opset_imports=[helper.make_opsetid('', OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, dict(facts))
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


class _Graph:
    """Nodes and constants of a graph that grows; a value is its name. A method for each kind of layer."""

    def __init__(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._weights = weights

    def add(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add a node; return its output, of that name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def features(self) -> str:
        """Return what the first layer sees (``DENOISER_FEATURES``)."""
        flat = self.constant('flat_object', np.array([1, 0], np.float32).reshape(1, 2, 1, 1))
        half = self.constant('half', np.float32(0.5))
        contrast = self.add('Sub', 'object', flat, name='contrast')
        level = self.add('Mul', self.add('Log', 'deviation', name='log'), half, name='level')
        return self.add('Concat', contrast, level, name='input', axis=1)

    def conv(self, layer: Layer, features: str) -> str:
        """Convolve, and activate as the layer says."""
        kernel, bias = (f'{DENOISER}/{layer.name}/{part}' for part in ('kernel', 'bias'))
        margin = [layer.kernel // 2] * 4
        linear = self.add(
            'Conv',
            features,
            self.constant(kernel, self._weights[kernel].transpose(3, 2, 0, 1)),
            self.constant(bias, self._weights[bias]),
            name=f'{layer.name}/linear',
            kernel_shape=[layer.kernel] * 2,
            pads=margin,
        )
        if layer.activation == 'none':
            return linear
        gate = self.add('Sigmoid', linear, name=f'{layer.name}/gate')
        return self.add('Mul', linear, gate, name=layer.name)

    def mean_pool(self, layer: Layer, features: str) -> str:
        """Take means of squares of 2 × 2 pixels."""
        return self.add('AveragePool', features, name=layer.name, kernel_shape=[2, 2], strides=[2, 2])

    def upsample(self, layer: Layer, features: str) -> str:
        """Repeat each pixel in a square of 2 × 2."""
        factors = self.constant(f'{layer.name}/factors', np.array([1, 1, 2, 2], np.float32))
        return self.add(
            'Resize',
            *(features, '', factors),
            name=layer.name,
            mode='nearest',
            coordinate_transformation_mode='asymmetric',
            nearest_mode='floor',
        )

    def concat(self, layer: Layer, *features: str) -> str:
        """Put channels behind one another."""
        return self.add('Concat', *features, name=layer.name, axis=1)

    def space_to_depth(self, layer: Layer, features: str) -> str:
        """Fold squares of 2 × 2 pixels into channels."""
        folded = self.add('SpaceToDepth', features, name=f'{layer.name}/folded', blocksize=2)
        # ONNX counts them by pixels first, the plan by channels first.
        order = np.arange(layer.out_channels).reshape(4, layer.in_channels).T.ravel()
        return self.add(
            'Gather', folded, self.constant(f'{layer.name}/order', order), name=layer.name, axis=1
        )

    def depth_to_space(self, layer: Layer, features: str) -> str:
        """Undo :meth:`space_to_depth`."""
        return self.add('DepthToSpace', features, name=layer.name, blocksize=2, mode='CRD')
