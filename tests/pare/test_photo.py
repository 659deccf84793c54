from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from made import ARRAYS
from pare.body import Body, axis_angle_to_matrix
from pare.eval import main
from pare.photo import box_of
from pare.render import rasterise

BODY = Body(ARRAYS)


class Fixed(nn.Module):
    """Finds the same upright body, bent a little, in any image."""

    def forward(self, image):
        pose = .2 * torch.randn(1, 24, 3, generator=torch.Generator().manual_seed(0))
        pose[:, 0] = torch.tensor([torch.pi, 0, 0])
        return {'rotations': axis_angle_to_matrix(pose), 'betas': torch.zeros(1, 10),
                'camera': torch.tensor([[.8, .1, -.05]])}


@pytest.fixture
def photo(here, monkeypatch):
    options = {'resolution': 64, 'rendered': True}
    monkeypatch.setattr('pare.photo.load_model', lambda *_: (Fixed(), {'options': options}))
    Image.new('RGB', (200, 150), (9, 9, 9)).save('photo.png')
    return here


def test_the_mesh_lies_over_the_photograph_where_the_crop_has_it(photo, capsys):
    """Its silhouette, of vertices that are put into the box by hand."""
    main(['run', 'photo.png', '--device', 'cpu', '--obj', 'a.obj', '--box', '80', '30', '60',
          '100'])
    output = capsys.readouterr().out
    assert 'rendered people alone' in output and 'wrote person.npz, person.png and a.obj' in output
    found = np.load('person.npz')
    assert {key: found[key].shape for key in found.files} == {
        'verts': (1728, 3), 'pose': (72,), 'betas': (10,), 'pred_cam': (3,), 'translation': (3,),
        'joints': (24, 3)}
    output = Fixed()(None)
    mesh = BODY(output['betas'], output['rotations'])[0][0].numpy()
    np.testing.assert_allclose(found['verts'], mesh, atol=1e-6)
    side, centre = 1.2 * 100, (110, 80)
    crop = .8 * (mesh[:, :2] + (.1, -.05))     # -1 to 1
    pixels = crop * side / 2 + centre
    silhouette = rasterise(pixels, mesh[:, 2], ARRAYS['f'], (150, 200))[0] >= 0
    picture = np.asarray(Image.open('person.png'))
    assert picture.shape == (150, 200 + 150, 3)  # the photograph, and the crop as high
    drawn = (picture[:, :200] != 9).any(axis=2)
    assert silhouette.sum() > 500 and (drawn != silhouette).mean() < .01
    lines = Path('a.obj').read_text().splitlines()
    corners = np.array([line.split()[1:] for line in lines if line.startswith('v ')], dtype=float)
    np.testing.assert_allclose(corners, mesh * (1, -1, -1), atol=1e-6)  # y is up
    faces = np.array([line.split()[1:] for line in lines if line.startswith('f ')], dtype=int)
    np.testing.assert_array_equal(faces, ARRAYS['f'] + 1)


def test_a_box_is_the_whole_photograph_or_what_is_given(capsys):
    assert box_of(None, (200, 150)) == ((100, 75), 240)
    assert box_of((10, 20, 30, 50), (200, 150)) == ((25, 45), 60)
    for box, warned in (((100, 50, 100, 100), False), ((100, 50, 190, 140), True)):
        box_of(box, (200, 150))
        assert ('not two corners' in capsys.readouterr().out) == warned


@pytest.mark.parametrize('words, message', (
    ('photo.png --box 200 0 5 5', '--box: found 200 0 5 5, expected a box that'),
    ('photo.png --box -9 0 9 5', 'expected a box that meets the image of 200 by'),
    ('photo.png --box 0 0 nan 5', 'expected a box that'),
    ('photo.png --box 0 0 1e9 5', 'with sides of 1 to 100000'),
    ('photo.png --focal 0', '--focal: found 0, expected at least 1'),
    ('photo.png --out photo.npz', 'photo.png, the input the photograph'),
    ('photo.png --out link.npz', 'link.png, the input the photograph'),
    ('photo.png --obj person.png', 'the input the picture of --out'),
    ('photo.png --model person.npz', '--out: found person.npz, the input --model'),
    ('photo.png --out person.png', '--out: found person.png, expected a name that ends'),
    ('photo.png --out no/person.npz', 'no/person.npz'),
    ('a.obj', 'a.obj: found no readable image')))
def test_mistakes_are_said_in_a_line(photo, fails, words, message):
    Path('link.png').symlink_to('photo.png')
    assert message in fails(main, 'run', '--device', 'cpu', *words.split())
    assert {path.name for path in photo.iterdir()} == {'photo.png', 'link.png'}


def test_the_shipped_weights_run_on_a_photograph(here):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 110, 3), dtype=np.uint8)).save(
        'photo.jpg')
    main(['run', 'photo.jpg', '--device', 'cpu'])
    assert all(np.isfinite(array).all() for array in np.load('person.npz').values())
    assert Image.open('person.png').size == (110 + 150, 150)
