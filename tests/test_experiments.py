import pytest
import torch

from data import sample, settle_views
from model import LiftModel
from tests.experiments import WAYS, loss_of
from training import ROOT, weak_loss


@pytest.mark.parametrize('way', WAYS[2:])
def test_the_truth_has_no_loss_and_nothing_beside_it(way):
    """Lifts of view 1, then of every other view 2 in its own frame, the root at distance 1."""
    joints, _ = settle_views(sample(100, seed=6))
    views = {key: torch.from_numpy(array) for key, array in joints.items()}
    views |= {'virtual_2d': views['joint_2d_1'], 'turn': torch.eye(3).expand(100, 3, 3)}
    rot, one = views['rot'].view(-1, 3, 3), views['joint_3d'] - ROOT
    two = one @ rot.mT / views['distance'][:, None, None]
    truth = torch.cat([one, two[::2]]) + ROOT

    def loss(shift_1, shift_2):
        wrong = torch.cat([shift_1.expand(100, 3), shift_2.expand(50, 3)])[:, None]
        return loss_of(way, lambda joint_2d: (truth + wrong)[:len(joint_2d)], views)

    shift, none = torch.tensor([.01, 0, .02]), torch.zeros(3)
    assert loss(none, none) < 1e-5 and loss(shift, none) > .005
    assert loss(none, shift) > .005 or 'agreement' not in way


def test_the_loss_of_training_is_one_of_them():
    joints, _ = settle_views(sample(100, seed=6))
    views = {key: torch.from_numpy(array) for key, array in joints.items()}
    views |= {'virtual_2d': views['joint_2d_1'], 'turn': torch.eye(3).expand(100, 3, 3)}
    model = LiftModel(1, 16, dropout=0)
    torch.testing.assert_close(loss_of('reprojection, agreement', model, views),
                               weak_loss(model, views)[0])
