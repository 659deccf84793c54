"""Pictures of a score: turn samples and a network into numbers and images for pare.plots."""
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from common import charts
from metrics import cal_joint_error, cal_mpjpe
from pare import plots
from pare.body import Body, Skeleton, fit_camera
from pare.metrics import centred, complete, names_of
from pare.model import MEAN
from pare.render import from_the_side, overlay, to_pixels

LARGE = 256      # pixels of a side in drawings of bodies
GROUPS = 6       # groups of people, about equal in number, by the visible share of their bodies
NAMES = tuple(f'{name}.png' for name in (
    'examples', 'worst', 'joint_error', 'visible', 'attention', 'sensitivity'))
FOUND, TRUE = (120, 170, 235), (240, 190, 130)       # colours of bodies
GREY = torch.tensor(MEAN).mul(255).round().byte()    # the mean colour, 0 after standardising


@torch.no_grad()
def draw_all(model: nn.Module, samples, arrays: dict, found: dict, visible, folder: Path,
             device: torch.device, squares: bool = False) -> None:
    """Draw all pictures of a score into a folder, with `squares` also those of `sensitivity`.

    `visible` (N,) is the visible share of each body, or None.
    """
    both = complete(found)
    errors = 1000 * cal_mpjpe(found['found'], found['true'], avg=False).numpy()
    order = errors.argsort()[:max(len(both[0]), 1)].tolist()  # NaN, without truth, is last: cut
    middle = [order[round(share * (len(order) - 1))] for share in (.1, .3, .5, .7)]
    for name, rows in (('examples', middle), ('worst', order[-4:][::-1])):
        plots.draw_examples(examples(model, samples, arrays, rows, errors, device),
                            folder / f'{name}.png')
    names, means = names_of(Skeleton(arrays)), 1000 * cal_joint_error(*both).numpy()
    first = names[0] == 'Pelvis'  # from which the others are measured
    charts.draw_joint_error(means[first:], names[first:], folder / 'joint_error.png', unit='mm',
                            digits=1)
    if visible is not None:
        plots.draw_visible(*by_visible(visible, errors), folder / 'visible.png')
    sample, error = samples[middle[0]], errors[middle[0]]
    image = sample['image'].permute(1, 2, 0).numpy()
    output = model(sample['image'][None].to(device))
    if 'attention' in output:
        plots.draw_attention(image, output['attention'][0].cpu().numpy(), folder / 'attention.png')
    if squares:
        plots.draw_sensitivity(image, sample['labels'].numpy(),
                               sensitivity(model, sample['image'], found['true'][middle[0]], arrays,
                                           device), error,
                               folder / 'sensitivity.png')


def by_visible(visible: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return mean share, mean error, its standard error and the number of people of each group.

    Groups are about equal in number and begin with the least visible. People of whom nothing is
    hidden form one.
    """
    shares = visible.round(2)
    edges = np.unique(np.quantile(shares, np.linspace(0, 1, GROUPS + 1)))
    group = np.searchsorted(edges[1:], shares, side='right')
    groups = [errors[group == number] for number in np.unique(group)]
    return (np.array([visible[group == number].mean() for number in np.unique(group)]),
            *np.transpose([(part.mean(), part.std() / len(part) ** .5, len(part))
                           for part in groups]))


@torch.no_grad()
def examples(model, samples, arrays: dict, rows, errors, device) -> list[tuple]:
    """Return a title and pictures for each row: image, true and found parts, the found body over
    the image, and the found and the true body, both neutral, from the side."""
    body, skeleton = Body(arrays), Skeleton(arrays)
    faces, blank, result = arrays['f'].astype(np.int64), np.full((LARGE, LARGE, 3), 255, 'u1'), []

    def mesh(part: dict) -> tuple[np.ndarray, np.ndarray]:
        return body(part['betas'], part['rotations'])[0][0].numpy(), part['camera'][0].numpy()

    def from_side(vertices, camera, colour) -> np.ndarray:
        side = from_the_side(vertices)
        return overlay(blank, to_pixels(side, camera, LARGE), side, faces, colour)

    for row in rows:
        sample = samples[row]
        output = {key: value.cpu() for key, value in
                  model(sample['image'][None].to(device)).items()}
        truth = {key: sample[key][None] for key in ('betas', 'rotations', 'keypoints')}
        places, weight = truth['keypoints'].split((2, 1), dim=-1)
        points = skeleton(truth['betas'], truth['rotations']).keypoints
        truth['camera'] = fit_camera(points, places, weight[..., 0])
        image = np.asarray(Image.fromarray(sample['image'].permute(1, 2, 0).numpy()).resize(
            (LARGE, LARGE), Image.Resampling.BICUBIC))
        vertices, camera = mesh(output)
        over = overlay(image, to_pixels(vertices, camera, LARGE), vertices, faces, FOUND)
        parts = output['parts'][0].argmax(dim=0).numpy() if 'parts' in output else None
        result.append((f'{errors[row]:.0f} mm', image, sample['labels'].numpy(), parts, over,
                       from_side(vertices, camera, FOUND),
                       from_side(*mesh(truth), TRUE) if sample['has_smpl'] else None))
    return result


@torch.no_grad()
def sensitivity(model, image, truth, arrays: dict, device, n: int = 16) -> np.ndarray:
    """Return the MPJPE in mm (n, n), with `truth` (K, 3), of an image (3, R, R) that has a grey
    square, a fifth of the image wide, at each place."""
    skeleton, size = Skeleton(arrays).to(device), image.shape[1]
    hidden = image.repeat(n * n, 1, 1, 1)
    for place in range(n * n):
        low = [round((at + .5) / n * size - .1 * size) for at in divmod(place, n)]
        (top, left), (bottom, right) = low, [at + round(.2 * size) for at in low]
        hidden[place, :, max(top, 0):bottom, max(left, 0):right] = GREY[:, None, None]
    errors = []
    for part in hidden.split(64):
        output = model(part.to(device))
        found = centred(skeleton(output['betas'], output['rotations']), skeleton)
        errors.append(cal_mpjpe(found.cpu(), truth.expand_as(found), avg=False))
    return 1000 * torch.cat(errors).view(n, n).numpy()
