"""Gradients of the transform to the parameters that geometries are made of, by finite differences and by the oracle."""

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed, spline_drift
from xrmflow.geometry.scan import scan_geometry
from xrmflow.geometry.trajectories import circular_cone, helical, offset_detector, parallel
from xrmflow.projectors import oracle
from xrmflow.projectors.transform import backproject, backproject_adjoint, project, project_adjoint

GRID = VolumeGrid((5, 6, 7), 1.9, (0.3, 0.2, -0.4))
VIEWS, ROWS, COLS = 2, 5, 6
SIZE = {"rows": ROWS, "cols": COLS}
CONE = {"source_to_axis_mm": 40.0, "source_to_detector_mm": 60.0}
ANGLES = torch.tensor([33.0, 151.0], dtype=torch.float64)
SHIFTS = torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64)


def recorded(**parameters):
    turned = {"roll_deg": 0.6, "tilt_deg": 0.9, "slant_deg": -0.8, "skew_deg": 0.4}
    record = Acquisition("cone", tuple(ANGLES.tolist()), ROWS, COLS, 3.1, 40.0, 60.0, 2.7, 1.8, **turned)
    return scan_geometry(record, **{"shifts_px": SHIFTS, **parameters})


def circle(**parameters):
    return circular_cone(**{"angles_deg": ANGLES, **SIZE, "pixel_mm": 3.1, **CONE, **parameters})


def flat(**parameters):
    return parallel(**{"angles_deg": ANGLES, **SIZE, "pixel_mm": 2.13, **parameters})


def aside(**parameters):
    return offset_detector(**{"angles_deg": ANGLES, **SIZE, "pixel_mm": 3.1, **CONE, **parameters})


def helix(**parameters):
    return helical(**{"angles_deg": ANGLES, **SIZE, "pixel_mm": 3.1, **CONE, **parameters})


def moved(**parameters):
    return perturbed(recorded(), **parameters)


def drifting(coefficients):
    return perturbed(recorded(), shifts_px=spline_drift(coefficients, VIEWS))


def drifting_source(coefficients):
    return perturbed(circle(), source_mm=spline_drift(coefficients, VIEWS))


PARAMETERS = {
    (make, name): value
    for make, values in {
        recorded: {
            "centre_px": 2.7,
            "roll_deg": 0.6,
            "tilt_deg": 0.9,
            "slant_deg": -0.8,
            "skew_deg": 0.4,
            "shifts_px": SHIFTS,
        },
        circle: {
            "angles_deg": ANGLES,
            "pixel_mm": 3.1,
            "source_to_axis_mm": 40.0,
            "source_to_detector_mm": 60.0,
            "centre_px": 2.8,
            "midplane_px": 1.9,
        },
        flat: {"angles_deg": ANGLES, "pixel_mm": 2.13, "centre_px": 2.8, "midplane_px": 1.9},
        aside: {"offset_px": 0.77},
        helix: {"pitch_mm": 1.3},
        moved: {
            "source_mm": [0.2, 0.1, -0.3],
            "detector_mm": [0.2, 0.1, -0.3],
            "centre_px": 0.3,
            "shifts_px": SHIFTS,
            "roll_deg": [0.2, 0.3],
            "tilt_deg": 0.2,
            "slant_deg": 0.1,
            "axis_mm": [0.2, 0.1, -0.3],
            "axis_lean_deg": [0.3, -0.2],
        },
        drifting: {"coefficients": [[0.2, 0.1], [0.3, 0.5], [-0.2, 0.1], [0.4, 0.3]]},
        drifting_source: {"coefficients": [[0.2, 0.1, 0.3], [0.3, 0.5, 0.1], [-0.2, 0.1, 0.4], [0.4, 0.3, -0.1]]},
    }.items()
    for name, value in values.items()
}
EACH = pytest.mark.parametrize(("make", "name"), PARAMETERS, ids=lambda value: getattr(value, "__name__", value))


def data(seed, shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


VOLUME, PROJECTIONS = data(0, GRID.shape), data(1, (VIEWS, ROWS, COLS))


@EACH
def test_gradients_to_parameters_equal_finite_differences_and_the_oracle(make, name):
    value = torch.as_tensor(PARAMETERS[make, name], dtype=torch.float64).clone().requires_grad_()
    pairs = ((project, oracle.project, VOLUME, PROJECTIONS), (backproject, oracle.backproject, PROJECTIONS, VOLUME))
    for fast, slow, given, weights in pairs:

        def loss(parameter, operator=fast, given=given, weights=weights):
            return (operator(given, make(**{name: parameter}), GRID) * weights).sum()

        assert torch.autograd.gradcheck(loss, value, eps=1e-6, atol=1e-6, rtol=1e-6)
        (wanted,) = torch.autograd.grad(loss(value, slow), value)
        adjoint = project_adjoint if fast is project else backproject_adjoint
        for got in (loss(value), loss(value, adjoint, weights, given)):
            torch.testing.assert_close(*torch.autograd.grad(got, value), wanted, rtol=1e-8, atol=1e-10)


def test_gradients_to_the_pose_of_an_ideal_detector():
    """There the kernels go column by column, though the slopes to its roll, tilt and slant do not vanish."""
    names = ("roll_deg", "tilt_deg", "slant_deg")
    values = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in names]
    for fast, slow, given, weights in (
        (project, oracle.project, VOLUME, PROJECTIONS),
        (backproject, oracle.backproject, PROJECTIONS, VOLUME),
    ):
        got, wanted = (
            torch.autograd.grad(
                (operator(given, perturbed(circle(), **dict(zip(names, values, strict=True))), GRID) * weights).sum(),
                values,
            )
            for operator in (fast, slow)
        )
        assert min(abs(slope) for slope in wanted) > 1e-4
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-10)
