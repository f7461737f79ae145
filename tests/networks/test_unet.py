import pytest
import torch

from xrmflow.networks.architectures import build, name_of
from xrmflow.networks.unet import UNet


def randomised(**arguments):
    torch.manual_seed(0)
    network = UNet(**arguments)
    torch.nn.init.normal_(network.last.weight)
    return network


def test_untrained_network_returns_the_middle_channel():
    image = torch.randn(2, 3, 16, 24)
    assert torch.equal(UNet(channels=3)(image), image[:, 1:2])


def test_without_residual_nothing_of_the_input_is_passed_on_untrained():
    assert torch.equal(UNet(channels=3, residual=False)(torch.randn(2, 3, 16, 24)), torch.zeros(2, 1, 16, 24))


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_radius_bounds_the_reach_and_is_not_generous(levels):
    network = randomised(features=2, levels=levels)
    size, radius = 8 * (network.radius // 4 + 2), network.radius
    reach = 0
    for offset in range(network.multiple):
        image = torch.randn(1, 1, size, size, requires_grad=True)
        y = size // 2 + offset
        touched = torch.nonzero(torch.autograd.grad(network(image)[0, 0, y, y], image)[0][0, 0])
        reach = max(reach, int((touched - y).abs().max()))
    assert reach <= radius
    assert radius <= reach + network.multiple


def test_moving_the_image_by_the_multiple_moves_the_output():
    network = randomised(features=2, levels=2)
    image = torch.zeros(1, 1, 96, 96)
    image[..., 40:50, 40:50] = torch.rand(10, 10)
    moved = torch.roll(image, network.multiple, dims=3)
    inside = (..., slice(34, 60), slice(34, 60))
    torch.testing.assert_close(torch.roll(network(image), network.multiple, dims=3)[inside], network(moved)[inside])


def test_build_makes_the_named_architecture_again():
    network = UNet(channels=3, features=4, levels=2)
    again = build(name_of(network), network.arguments)
    assert [p.shape for p in again.parameters()] == [p.shape for p in network.parameters()]


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("resnet", {}, "architecture: expected one of unet, got 'resnet'"),
        ("unet", {"depth": 3}, "arguments of unet: .*depth"),
        ("unet", {"channels": 2}, "channels: expected an odd number"),
        ("unet", {"features": 10**9}, "features, levels: expected 1 to 1024"),
    ],
)
def test_impossible_architectures_are_named(architecture, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(architecture, arguments)
