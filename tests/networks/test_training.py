import pytest
import torch

from xrmflow.errors import UserError
from xrmflow.networks.training import Plan, autocast_dtype, train
from xrmflow.networks.unet import UNet


class Memory:
    """Checkpoints that keep copies of every state."""

    def __init__(self, state=None):
        self.saved = [] if state is None else [state]

    def load(self):
        return self.saved[-1] if self.saved else None

    def save(self, state):
        self.saved.append({name: tensor.clone() for name, tensor in state.items()})


def draw(step):
    """Denoise: a ramp plus noise in, the ramp plus other noise out."""
    generator = torch.Generator().manual_seed(step)
    clean = torch.linspace(-1, 1, 16).expand(4, 1, 16, 16)
    noise = torch.randn(2, 4, 1, 16, 16, generator=generator)
    return clean + noise[0], clean + noise[1]


def network():
    torch.manual_seed(0)
    return UNet(features=4, levels=1)


def weights(trained):
    return torch.cat([p.flatten() for p in trained.parameters()])


PLAN = Plan(steps=60, record_steps=10, precision="float32")


def test_learns_to_remove_noise():
    plan = Plan(steps=150, learning_rate=1e-2, record_steps=50, precision="float32")
    trained, losses = train(network(), draw, plan=plan, validate=draw)
    image, _ = draw(10**6)
    clean = torch.linspace(-1, 1, 16).expand(4, 1, 16, 16)
    before, after = ((image - clean) ** 2).mean(), ((trained(image) - clean) ** 2).mean()
    assert after < 0.3 * before
    # The target's noise has variance 1: that is the floor of the loss.
    assert 1.0 < losses.train[-1] < 1.3
    assert losses.step == [50, 100, 150]
    assert len(losses.validation) == 3


def test_same_seed_same_weights():
    assert torch.equal(weights(train(network(), draw, plan=PLAN)[0]), weights(train(network(), draw, plan=PLAN)[0]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resumed_training_equals_uninterrupted_training_bit_for_bit(precision):
    plan = Plan(steps=60, record_steps=10, precision=precision)
    kept = Memory()
    whole, losses = train(network(), draw, plan=plan, validate=draw, checkpoints=kept)
    assert len(kept.saved) == 5
    resumed, again = train(network(), draw, plan=plan, validate=draw, checkpoints=Memory(kept.saved[2]))
    assert torch.equal(weights(whole), weights(resumed))
    assert losses == again


def test_interrupted_training_resumes_from_what_it_kept():
    def breaks(step):
        if step == 35:
            raise KeyboardInterrupt
        return draw(step)

    kept = Memory()
    with pytest.raises(KeyboardInterrupt):
        train(network(), breaks, plan=PLAN, checkpoints=kept)
    steps = []
    resumed, _ = train(network(), lambda step: steps.append(step) or draw(step), plan=PLAN, checkpoints=kept)
    assert steps[0] == 30
    assert torch.equal(weights(resumed), weights(train(network(), draw, plan=PLAN)[0]))


def test_the_given_network_is_not_changed():
    given = network()
    before = weights(given).clone()
    train(given, draw, plan=Plan(steps=2, record_steps=1, precision="float32"))
    assert torch.equal(weights(given), before)


def test_nan_ends_training_with_the_cause():
    def poisoned(step):
        image, target = draw(step)
        return image, target * (float("nan") if step == 7 else 1.0)

    with pytest.raises(UserError, match=r"finite loss, got nan at step 7; lower learning_rate \(now 0.003\)"):
        train(network(), poisoned, plan=PLAN)


def test_a_time_limit_ends_training_early():
    _, losses = train(network(), draw, plan=Plan(steps=10**6, max_minutes=0.0, precision="float32"))
    assert losses.step == [1]


def test_precision_by_name():
    assert autocast_dtype("float32", "cpu") == torch.float32
    assert autocast_dtype("bfloat16", "cpu") == torch.bfloat16
    assert autocast_dtype("auto", "cuda") == torch.bfloat16
    with pytest.raises(ValueError, match="precision: expected auto, float32 or bfloat16, got 'half'"):
        autocast_dtype("half", "cpu")  # type: ignore[arg-type]
