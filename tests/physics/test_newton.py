"""A step of Newton's kind (clause SOLVE-13 of specs/physics.md)."""

import numpy as np

from ptycho_engine.physics.likelihood import Evaluation
from ptycho_engine.physics.newton import NewtonStep

SHAPE = 12, 9


class Parabola:
    """A likelihood that is its own quadratic model: ``sum W |x - t|^2 / 2``."""

    def __init__(self, rng):
        self.weight = rng.uniform(1, 5, SHAPE)
        self.target = rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE)

    def gradient(self, obj):
        return self.weight * (obj - self.target)

    def evaluate(self, obj, indices, likelihood):
        return Evaluation(self.gradient(obj), self.weight, 0.0)

    def curvature_along(self, obj, direction):
        return self.weight * direction

    def filtered(self, values, gain):
        return np.fft.ifft2(np.fft.fft2(values) * gain).real


def test_solve_13_the_gradient_where_it_leads_is_that_of_the_model():
    """With total variation, whose pull is no part of it."""
    physics = Parabola(np.random.default_rng(2))
    step = NewtonStep(physics, np.ones(SHAPE, complex), physics.weight, 0.3, np.full(SHAPE, 0.2), 4)
    for _ in range(3):
        step.improve()
        np.testing.assert_allclose(step.gradient, physics.gradient(step.reached), atol=1e-12)
