"""A scan small enough to write down as a matrix."""

from types import SimpleNamespace

import pytest
import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.trajectories import circular_cone
from xrmflow.projectors.transform import project


@pytest.fixture(autouse=True)
def one_thread():
    """Arrays this small are not worth starting threads for, thousands of times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny():
    """Nine views of 6 x 12 pixels of 3 x 5 x 5 voxels, well posed (condition 9); with the dense matrix in float64."""
    angles = torch.linspace(0, 360, 10)[:-1] + 4
    geometry = circular_cone(
        angles, rows=6, cols=12, pixel_mm=0.02, source_to_axis_mm=1.0, source_to_detector_mm=2.0, centre_px=5.8
    )
    grid = VolumeGrid((3, 5, 5), 0.02)
    units = torch.eye(75, dtype=torch.float64).reshape(75, *grid.shape)
    matrix = torch.stack([project(unit, geometry, grid).flatten() for unit in units], dim=1)
    random = torch.Generator().manual_seed(0)
    truth = torch.rand(grid.shape, generator=random)
    projections = project(truth, geometry, grid)
    noisy = projections + 0.002 * torch.randn(projections.shape, generator=random)
    weights = torch.rand(projections.shape, generator=random) + 0.5
    weights[1, 2, 3:5] = 0
    mask = torch.ones(grid.shape, dtype=torch.bool)
    mask[:, :2, 0] = False
    return SimpleNamespace(
        geometry=geometry,
        grid=grid,
        matrix=matrix,
        truth=truth,
        projections=projections,
        noisy=noisy,
        weights=weights,
        mask=mask,
        scan=(noisy, geometry, grid),
    )


@pytest.fixture(scope="session", params=["plain", "weights and mask"])
def least_squares(tiny, request):
    """Options of a method, and the least-squares volume under them, by a dense solver."""
    weighted = request.param != "plain"
    options = {"weights": tiny.weights, "mask": tiny.mask} if weighted else {}
    root = options.get("weights", torch.ones(())).expand(tiny.noisy.shape).flatten().double().sqrt()
    inside = options.get("mask", torch.ones(tiny.grid.shape, dtype=torch.bool)).flatten()
    matrix, data = (root[:, None] * tiny.matrix)[:, inside], root * tiny.noisy.flatten().double()
    volume = torch.zeros(75, dtype=torch.float64)
    volume[inside] = torch.linalg.lstsq(matrix, data[:, None], driver="gelsd").solution[:, 0]
    best = (root * (tiny.matrix @ volume) - data).norm()
    return SimpleNamespace(
        options=options, volume=volume.reshape(tiny.grid.shape).float(), residual=float(best), matrix=matrix
    )
