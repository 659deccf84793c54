"""What a score shows: it turns samples and networks into numbers and images, which plots draw."""
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from metrics import cal_joint_error, cal_mpjpe
from pare import plots
from pare.body import H36M, Body, Skeleton, fit_camera
from pare.data import MEAN, STD
from pare.metrics import centred, complete, true_joints
from pare.render import from_the_side, overlay, to_pixels

LARGE = 256      # pixels of a side in which bodies are drawn
GROUPS = 6       # of people, alike in number, by how much of them is seen
TRUE = 240, 190, 130  # colour of true bodies


@torch.no_grad()
def draw_all(model: nn.Module, samples, arrays: dict, found: dict, visible, folder: Path,
             device: torch.device) -> None:
    """All pictures of a score into a folder; `visible` (N,) is the share of each body that is seen,
    or None."""
    both = complete(found['all'])
    errors = 1000 * cal_mpjpe(found['all']['found'], found['all']['true'], avg=False).numpy()
    order = errors.argsort()[:max(len(both[0]), 1)].tolist()  # NaN, not complete, is last
    middle = [order[round(share * (len(order) - 1))] for share in (.1, .3, .5, .7)]
    for name, rows in (('examples', middle), ('worst', order[-4:][::-1])):
        plots.draw_examples(examples(model, samples, arrays, rows, errors, device),
                            folder / f'{name}.png')
    plots.draw_joint_error(1000 * cal_joint_error(*both).numpy(), H36M, folder / 'joint_error.png')
    if visible is not None:
        plots.draw_visible({'mean and standard error': by_visible(visible, errors)},
                           folder / 'visible.png')
    sample = samples[middle[0]]
    output = model(sample['image'][None].to(device))
    if 'attention' in output:
        plots.draw_attention(picture(sample['image']), output['attention'][0].cpu().numpy(),
                             folder / 'attention.png')
    plots.draw_sensitivity(picture(sample['image']), sample['labels'].numpy(),
                           sensitivity(model, sample, arrays, device), errors[middle[0]],
                           folder / 'sensitivity.png')


def by_visible(visible: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean share, mean error and its standard error (GROUPS,) of groups alike in number, from the
    least visible on."""
    groups = np.array_split(visible.argsort(kind='stable'), GROUPS)
    shares, means = (np.array([values[rows].mean() for rows in groups])
                     for values in (visible, errors))
    return shares, means, np.array([errors[rows].std() / len(rows) ** .5 for rows in groups])


def picture(image: Tensor) -> np.ndarray:
    """Bytes (H, W, 3) of a standardised image (3, H, W)."""
    image = np.moveaxis(image.cpu().numpy(), 0, 2) * STD + MEAN
    return (255 * image).clip(0, 255).round().astype(np.uint8)


def enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((LARGE, LARGE), Image.Resampling.BICUBIC))


@torch.no_grad()
def examples(model, samples, arrays: dict, rows, errors, device) -> list[tuple]:
    """For each row a title and pictures: image, true and found parts, the found body over the
    image, and the found and the true body from the side."""
    body, skeleton = Body(arrays), Skeleton(arrays)
    faces, blank, result = arrays['f'].astype(np.int64), np.full((LARGE, LARGE, 3), 255, 'u1'), []
    for row in rows:
        sample = samples[row]
        output = {key: value.cpu() for key, value in
                  model(sample['image'][None].to(device)).items()}
        truth = {key: sample[key][None] for key in ('betas', 'rotations', 'keypoints')}
        places, weight = truth['keypoints'].split((2, 1), dim=-1)
        truth['camera'] = fit_camera(skeleton(truth['betas'], truth['rotations'])[0], places,
                                     weight[..., 0])
        image, sides = enlarged(picture(sample['image'])), []
        for part, colour in ((output, None), (truth, TRUE)):
            if part is truth and not sample['has_smpl']:
                sides.append(None)
                continue
            vertices = body(part['betas'], part['rotations'])[0][0].numpy()
            camera = part['camera'][0].numpy()
            if part is output:
                over = overlay(image, to_pixels(vertices, camera, LARGE), vertices, faces)
            side = from_the_side(vertices)
            sides.append(overlay(blank, to_pixels(side, camera, LARGE), side, faces,
                                 *[colour] if colour else []))
        parts = output['parts'][0].argmax(dim=0).numpy() if 'parts' in output else None
        result.append((f'{errors[row]:.0f} mm', image, sample['labels'].numpy(), parts, over,
                       *sides))
    return result


@torch.no_grad()
def sensitivity(model, sample: dict, arrays: dict, device, n: int = 16) -> np.ndarray:
    """MPJPE in mm (n, n) with a grey square, a fifth of the image wide, at each place."""
    skeleton = Skeleton(arrays).to(device)
    image, size = sample['image'], sample['image'].shape[1]
    hidden = image.repeat(n * n, 1, 1, 1)
    for place in range(n * n):
        low = [round((at + .5) / n * size - .1 * size) for at in divmod(place, n)]
        high = [at + round(.2 * size) for at in low]
        hidden[place, :, max(low[0], 0):high[0], max(low[1], 0):high[1]] = 0
    truth = true_joints({key: value[None].to(device) for key, value in sample.items()}, skeleton)
    errors = []
    for part in hidden.split(64):
        output = model(part.to(device))
        found = centred(*skeleton(output['betas'], output['rotations']), skeleton)
        errors.append(cal_mpjpe(found, truth.expand_as(found), avg=False))
    return 1000 * torch.cat(errors).view(n, n).cpu().numpy()
