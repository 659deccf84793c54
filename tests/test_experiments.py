import numpy as np
import pytest
import torch

from data import sample, second_view, settle_views
from tests.experiments import WAYS, weak_loss


@pytest.mark.parametrize('way', WAYS[4:])
def test_the_truth_and_nothing_else_has_no_loss(way):
    """Lifts of both views that are right, the second in its own frame at distance 1."""
    joints, _ = settle_views(sample(100, seed=6))
    truth = second_view(joints['joint_3d'], joints['rot'], joints['transl'])
    root = second_view(np.tile(np.float32([0, 0, -1]), (len(truth), 1, 1)), joints['rot'],
                       joints['transl'])
    answers = {1: joints['joint_3d'], 2: truth / np.linalg.norm(root, axis=-1, keepdims=True)}
    batch = {key: torch.from_numpy(array) for key, array in joints.items()}

    def model(joint_2d, shift=0):
        view = 1 if joint_2d is batch['joint_2d_1'] else 2
        return torch.from_numpy(answers[view]) + shift * torch.tensor([.01, 0, .02]) * view

    assert weak_loss(way, model, batch) < 1e-5
    assert weak_loss(way, lambda joint_2d: model(joint_2d, shift=1), batch) > .005
