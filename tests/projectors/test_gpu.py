"""The Triton kernels, run on the CPU by Triton's interpreter, against the oracle and against each other."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors import oracle, sensitivity
from xrmflow.projectors.setup import Setup

# Triton decides at import whether its kernels will be interpreted.
os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", minversion="3.7", reason="no Triton, or too old a one (pip install 'xrmflow[gpu-test]')")
from xrmflow.projectors import gpu

del os.environ["TRITON_INTERPRET"]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "projector_gpu.py"
GRID = VolumeGrid((5, 6, 7), 1.0, (0.4, -0.3, 0.2))
SCAN = Acquisition(
    beam="cone",
    angles_deg=(52.0, 200.0),
    rows=7,
    cols=9,
    pixel_mm=1.5,
    source_to_axis_mm=20.0,
    source_to_detector_mm=28.0,
    centre_px=4.2,
    midplane_px=2.7,
)
SCANS = {
    "cone": SCAN,
    "parallel": replace(SCAN, beam="parallel", source_to_axis_mm=None, source_to_detector_mm=None, pixel_mm=0.9),
    "offset": replace(SCAN, centre_px=1.3, shift_u_px=(0.7, -2.1), shift_v_px=(0.3, -1.2)),
    "tilted": replace(SCAN, roll_deg=3.0, tilt_deg=-2.0, slant_deg=1.0),
    "tilted parallel": replace(SCAN, beam="parallel", roll_deg=4.0, tilt_deg=2.0),
    "fine voxels": replace(SCAN, pixel_mm=4.0),
}
ADJOINTS = {
    "project": (gpu.project, gpu.project_adjoint, oracle.project),
    "backproject": (gpu.backproject, gpu.backproject_adjoint, oracle.backproject),
}
# One program for everything: interpreting costs the same for a large tile as for a small one.
ONE = gpu.Tiling(views=2, side=8, places_x=8, places_y=8, places=16, pieces=2, lanes=4, planes=4)
# Many programs, launches and blocks, none of which divides the sizes.
MANY = gpu.Tiling(views=1, side=4, places_x=2, places_y=4, places=4, pieces=1, lanes=4, planes=2)


def _setup(name: str) -> Setup:
    return Setup(scan_geometry(SCANS[name]), GRID)


def _random(setup: Setup, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    geometry = setup.geometry
    projections = torch.rand((geometry.views, geometry.rows, geometry.cols), generator=generator, dtype=dtype)
    return torch.rand(setup.grid.shape, generator=generator, dtype=dtype), projections


def _oracle(function, data: torch.Tensor, setup: Setup) -> torch.Tensor:
    return function(data.double(), setup.geometry, setup.grid)


def _transposed(function, data: torch.Tensor, like: torch.Tensor, setup: Setup) -> torch.Tensor:
    """The oracle's transpose, as the gradient of a linear function."""
    at = torch.zeros_like(like, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(_oracle(function, at, setup), at, data.double())[0]


def _difference(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("kind", ADJOINTS)
def test_as_the_oracle(name, kind):
    setup = _setup(name)
    forward, backward, truth = ADJOINTS[kind]
    volume, projections = _random(setup)
    data, result = (volume, projections) if kind == "project" else (projections, volume)
    assert _difference(forward(data, setup, tiling=ONE), _oracle(truth, data, setup)) < 2e-6
    assert _difference(backward(result, setup, tiling=ONE), _transposed(truth, result, data, setup)) < 2e-6


def test_cases_take_all_paths():
    setups = {name: _setup(name) for name in SCANS}
    assert {name for name, setup in setups.items() if setup.level} == {"cone", "parallel", "offset", "fine voxels"}
    assert {name for name, setup in setups.items() if setup.upright} == {"cone", "parallel", "offset", "fine voxels"}


@pytest.mark.parametrize(
    ("name", "dtype", "limit"), [("offset", torch.float64, 1e-12), ("tilted", torch.float32, 1e-6)]
)
def test_adjoint_identity_across_programs_and_launches(name, dtype, limit):
    """<A x, y> = <x, A^T y>, cut into many programs, and the same numbers as in one."""
    setup = _setup(name)
    volume, projections = _random(setup, dtype)
    for (forward, backward, _), (x, y) in zip(
        ADJOINTS.values(), [(volume, projections), (projections, volume)], strict=True
    ):
        image, back = forward(x, setup, tiling=MANY), backward(y, setup, tiling=ONE)
        assert abs(float((image * y).double().sum() / (x * back).double().sum()) - 1) < limit
        assert _difference(image, forward(x, setup, tiling=ONE).double()) < 2 * limit


def test_adjoints_across_programs():
    setup = Setup(scan_geometry(SCAN).with_views(slice(1)), GRID)
    volume, projections = _random(setup)
    for backward, data in ((gpu.project_adjoint, projections), (gpu.backproject_adjoint, volume)):
        cut = backward(data, setup, tiling=replace(MANY, places_x=4, places=8, planes=4))
        assert _difference(cut, backward(data, setup, tiling=ONE).double()) < 2e-6


@pytest.mark.parametrize("kind", ADJOINTS)
def test_a_source_inside_the_grid(kind):
    """Voxels and planes behind the source count for nothing; some pixels see voxels a column wide."""
    scan = scan_geometry(replace(SCAN, source_to_axis_mm=2.3, source_to_detector_mm=9.7, angles_deg=(11.0,),
                                 shift_u_px=(), shift_v_px=()))  # fmt: skip
    setup = Setup(scan, GRID)
    forward, backward, truth = ADJOINTS[kind]
    volume, projections = _random(setup)
    data, result = (volume, projections) if kind == "project" else (projections, volume)
    assert _difference(forward(data, setup, tiling=ONE), _oracle(truth, data, setup)) < 1e-5
    assert _difference(backward(result, setup, tiling=ONE), _transposed(truth, result, data, setup)) < 1e-5


def test_rays_and_voxels_that_miss():
    scan = scan_geometry(replace(SCAN, centre_px=500.0))
    setup = Setup(scan, GRID)
    volume, projections = _random(setup)
    for function, data in ((gpu.project, volume), (gpu.project_adjoint, projections),
                           (gpu.backproject, projections), (gpu.backproject_adjoint, volume)):  # fmt: skip
        assert not function(data, setup, tiling=ONE).any()


def test_batches_are_each_computed():
    setup = _setup("cone")
    volume, _ = _random(setup)
    batch = gpu.project(torch.stack([volume, 2 * volume]), setup, tiling=ONE)
    torch.testing.assert_close(batch[1], 2 * batch[0])


def test_results_keep_the_memory_order_of_the_kernels():
    """So that iterating between volume and projections never transposes."""
    setup = _setup("cone")
    volume, _ = _random(setup)
    image = gpu.project(volume, setup, tiling=ONE)
    assert image.permute(0, 2, 1).is_contiguous()
    assert gpu.backproject(image, setup, tiling=ONE).permute(1, 2, 0).is_contiguous()


def test_gradients_to_the_geometry_as_on_the_cpu():
    """Float64, so that both take the same side of every kink of the interpolation."""
    setup = Setup(scan_geometry(SCANS["tilted"]).with_views(slice(1)), GRID)
    volume, projections = _random(setup, torch.float64)
    tiling = replace(MANY, side=4, places_x=4, places=8)
    found = gpu.rays_gradient(volume, projections, setup, tiling=ONE)
    assert _difference(found, sensitivity.rays_gradient(volume, projections, setup)) < 1e-10
    pairs = zip(
        gpu.maps_gradient(projections, volume, setup, tiling=tiling),
        sensitivity.maps_gradient(projections, volume, setup),
        strict=True,
    )
    for found, truth in pairs:
        assert _difference(found, truth) < 1e-10


def test_slabs_on_several_devices():
    """Three slabs on two (pretended) devices give the same volume."""
    setup = _setup("offset")
    _, projections = _random(setup)
    devices = [torch.device("cpu"), torch.device("cpu")]
    whole = gpu.backproject(projections, setup, tiling=ONE)
    cut = gpu.backproject_slabs(projections, setup, devices=devices, slabs=3, tiling=ONE)
    assert _difference(cut, whole.double()) < 1e-6


# What Triton's interpreter lets pass its compiler may not: compile all kernels as for an H100 or H200. No GPU needed.
COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from xrmflow.projectors import gpu_backproject_adjoint, gpu_kernels, gpu_project_adjoint, gpu_slopes
TYPES = {"rays": "*fp64", "matrices": "*fp64", "mains": "*i8", "axes": "*i8"}
DATA = ("volume", "projections", "moved", "distances", "beams", "sums")
SIZES = dict(SIDE=8, PX=2, PY=2, PLACES=4, PIECES=1, LANES=32, PLANES=8)
def check(kernel, **flags):
    names = [parameter.name for parameter in kernel.params]
    fixed = {name: value for name, value in (SIZES | flags).items() if name in names}
    types = {name: TYPES.get(name, "*fp32" if name in DATA else "i32") for name in names}
    types |= dict.fromkeys(fixed, "constexpr")
    source = ASTSource(kernel, types, fixed)
    compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
check(gpu_slopes.voxel_slopes)
check(gpu_slopes.ray_slopes, CONE=True)
for yes in (True, False):
    check(gpu_kernels.backproject, UPRIGHT=yes)
    check(gpu_project_adjoint.project_adjoint, CONE=yes, LEVEL=yes)
check(gpu_kernels.project_level, CONE=True)
check(gpu_kernels.project_any, CONE=False)
check(gpu_backproject_adjoint.backproject_adjoint_upright, CONE=True)
check(gpu_backproject_adjoint.backproject_adjoint_any, CONE=False)
"""


def test_kernels_compile_for_a_gpu(monkeypatch, tmp_path):
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    (tmp_path / "compile_kernels.py").write_text(COMPILE)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "compile_kernels.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: the benchmark would run")
def test_the_benchmark_refuses_without_a_gpu():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "benchmarks/projector_gpu.py: expected a CUDA device, found none; nothing was measured\n"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible")
def test_gpu_and_cpu_agree(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--size", "64", "--views", "40"], capture_output=True, text=True, check=True
    )
    assert max(json.loads(done.stdout)["difference_to_cpu"].values()) < 1e-4


@pytest.mark.parametrize("tilt_deg", [0.0, 2.0])
def test_positions_at_2048_pixels(tilt_deg):
    """A block of voxels far from the axis of a 2048 scan, backprojected from a ramp, reads where each was seen."""
    scan = Acquisition(
        beam="cone", angles_deg=(33.0,), rows=2048, cols=2048, pixel_mm=1.6, source_to_axis_mm=8000.0,
        source_to_detector_mm=12000.0, centre_px=1023.5, midplane_px=1023.5, tilt_deg=tilt_deg,
    )  # fmt: skip
    setup = Setup(scan_geometry(scan), VolumeGrid((256, 32, 32), 1.0, (500.0, 700.0, 800.0)))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in (256, 32, 32)], indexing="ij")[::-1], axis=-1)
    column, row, depth = np.moveaxis(index @ setup.matrices[0, :, :3].T + setup.matrices[0, :, 3], -1, 0)
    distance = index[..., :2] @ setup.distances[0, :2] + setup.distances[0, 2]
    tiling = gpu.Tiling(places_x=32, places_y=32)
    for position, axis in ((column / depth, 1), (row / depth, 0)):
        middle = np.round(position.mean())
        ramp = torch.arange(2048.0) - middle
        image = (ramp if axis else ramp[:, None]).expand(1, 2048, 2048)
        seen = gpu.backproject(image, setup, tiling=tiling).numpy() * distance**2
        assert np.abs(seen - (position - middle)).max() < 1e-4
