"""Clouds of points, the small network that learns their arrows, and their figures."""

import numpy as np
import pytest
import torch

from sdlearn.chapters import field


@pytest.mark.parametrize(("name", "kinds"), [("two moons", 2), ("rings", 2), ("SD", 2), ("abc", 3)])
def test_clouds_are_centered_scaled_and_labelled(name, kinds):
    points, labels = field.cloud(name, 4000, seed=3)
    assert points.shape == (4000, 2) and points.dtype == torch.float32
    assert points.mean(0).abs().max() < 1e-5 and points.std().item() == pytest.approx(1, abs=1e-3)
    assert labels.unique().tolist() == list(range(kinds))
    assert torch.equal(points, field.cloud(name, 4000, seed=3)[0])
    assert not torch.equal(points, field.cloud(name, 4000, seed=4)[0])


def test_letters_are_read_from_left_to_right_and_stand_upright():
    """The middle of L lies left of and below that of 7, whose ink is on top."""
    points, labels = field.cloud("L7", 4000)
    corner, seven = points[labels == 0], points[labels == 1]
    assert corner[:, 0].max() < seven[:, 0].min()
    assert corner[:, 1].mean() < seven[:, 1].mean()


def test_what_is_drawn_becomes_points_there():
    mask = np.zeros((20, 20), bool)
    mask[:2, :], mask[10:12, :4] = True, True  # a bar on top, a spot on the left below it
    points, labels = field.drawn(mask, 1000)
    top = points[:, 1] > points[:, 1].mean()
    assert top.float().mean().item() == pytest.approx(40 / 48, abs=0.05)
    assert points[~top, 0].max() < points[top, 0].mean() and labels.max() == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: field.cloud("  "), "a short text"),
        (lambda: field.cloud("rings", 1), "at least two points"),
        (lambda: field.drawn(np.zeros((4, 4))), "Draw a shape first"),
    ],
)
def test_no_cloud_is_said_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_network_tells_times_and_labels_apart():
    torch.manual_seed(0)
    net, x = field.FieldNet(classes=2), torch.randn(5, 2)
    plain = net(x, 0.5)
    assert plain.shape == (5, 2) and torch.equal(plain, net(x, torch.full((5,), 0.5)))
    assert torch.equal(plain, net(x, 0.5, torch.full((5,), 2)))  # no label has a row of its own
    for other in (net(x, 0.1), net(x, 0.5, torch.zeros(5, dtype=torch.long))):
        assert (other - plain).abs().max() > 1e-3


def test_training_learns_a_field():
    """Arrows to the origin, -x: from an error of 1 to under 0.01."""
    torch.manual_seed(0)
    net = field.FieldNet()

    def loss():
        x = torch.randn(256, 2)
        return ((net(x, torch.rand(256)) + x) ** 2).mean()

    losses = field.train_field(net, loss, 200)
    assert len(losses) == 200 and losses[0] > 0.5 and np.mean(losses[-20:]) < 0.01


def test_panels_show_points_arrows_and_paths():
    grid = field.lattice(5)
    figure = field.panels(
        ["one", "two"],
        points=[torch.randn(9, 2)] * 2,
        arrows=[torch.cat([grid, -grid], 1), None],
        paths=[None, torch.randn(7, 3, 2)],
        labels=torch.arange(9),
    )
    one, two = figure.axes
    assert len(one.collections) == 2 and len(two.collections) == 1  # dots and arrows, dots
    assert len(two.lines) == 9  # three paths with both their ends
    assert figure.alt.startswith("2 planes. one: 9 points, ")
    assert "25 arrows, 96% of them toward the middle; two: 9 points, " in figure.alt
    assert "3 paths of length" in figure.alt
