"""Scores a regressor of the SMPL body, and runs it on a photograph.

    python -m pare.eval                          # pareModel on people_test.npz
    python -m pare.eval pareModel --data 3dpw_test.npz --images /data --body-dir smpl
    python -m pare.eval run photo.jpg --box x y w h --obj out.obj
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torch.utils.data import DataLoader

from metrics import cal_joint_error, cal_mpjpe, cal_pa_mpjpe
from pare import plots
from pare.body import EVALUATED, H36M, Body, full_translation, matrix_to_axis_angle
from pare.data import MEAN, STD, People, crop_matrix, read_photo, standardise, warp
from pare.files import load_body, write_npz
from pare.model import build
from pare.render import from_the_side, overlay
from pare.standin import make_body
from pare.training import TEST_FILE, by_visible, pick_device, to

ROWS = [H36M.index(name) for name in EVALUATED]
GENDERS = {'neutral': 'SMPL_NEUTRAL', 'm': 'SMPL_MALE', 'f': 'SMPL_FEMALE'}


def load_model(path: Path, device: torch.device) -> tuple[nn.Module, dict]:
    """A regressor as pare.training saved it, and its options. Raises ValueError or OSError."""
    try:
        found = torch.load(path, map_location=device, weights_only=True)
        options = found['options']
        model = build(options['kind'], options['size'], options['shared'])
        model.load_state_dict(found['weights'])
    except OSError as error:
        raise type(error)(f'{path}: {error.strerror}, expected weights of pare.training') from error
    except Exception as error:  # what is no checkpoint can raise nearly anything
        raise ValueError(f'{path}: found no weights of pare.training '
                         f'({type(error).__name__})') from error
    return model.to(device).eval(), options


# ---- the score ----------------------------------------------------------------------------------

@torch.no_grad()
def measure(model: nn.Module, people, bodies: dict, genders, device: torch.device) -> dict:
    """Joints of 3DPW's protocol from the pelvis (N, 14, 3), found and true, in metres; per-vertex
    error (N,); for part attention how many visible parts there are and how many it points at.

    The found body is of bodies['neutral'], the true one of each sample's gender (N,). Raises
    ValueError where a body has no regressor for the joints.
    """
    layers = {gender: Body(arrays).to(device) for gender, arrays in bodies.items()}
    for gender, arrays in bodies.items():
        if 'J_regressor_h36m' not in arrays:
            raise ValueError(f'body {gender}: found no J_regressor_h36m.npy beside it, expected '
                             f'one for the 14 joints of 3DPW')
    regressor = torch.from_numpy(bodies['neutral']['J_regressor_h36m']).to(device)
    parts, start = {'found': [], 'true': [], 'vertices': [], 'pointed': []}, 0
    for batch in DataLoader(people, 32):
        batch = to(device, batch)
        output = model(batch['image'])
        mesh, _ = layers['neutral'](output['betas'], output['rotations'])
        chosen = genders[start:start + len(mesh)]
        start += len(chosen)
        truth = torch.empty_like(mesh)
        for gender in set(chosen):
            rows = torch.tensor([other == gender for other in chosen], device=device)
            truth[rows] = layers[gender](batch['betas'][rows], batch['rotations'][rows])[0]
        for key, vertices in (('found', mesh), ('true', truth)):
            joints = regressor @ vertices
            parts[key].append((joints[:, ROWS] - joints[:, :1]).cpu())
        parts['vertices'].append((mesh - truth).norm(dim=-1).mean(dim=1).cpu())
        if 'attention' in output:
            parts['pointed'].append(pointing(output['attention'], batch['labels']).cpu())
    return {key: torch.cat(values) for key, values in parts.items() if values}


def pointing(attention: Tensor, labels: Tensor) -> Tensor:
    """For each image and part (B, 24) 1 where the peak of the attention (B, 24, H, W) is at most a
    cell from the part in labels (B, H, W), 0 where it is not, -1 where the part is not seen."""
    seen = torch.stack([(labels == part).float() for part in range(1, 25)], dim=1)
    near = max_pool2d(seen, 3, stride=1, padding=1).flatten(2)
    hit = near.gather(2, attention.flatten(2).argmax(dim=2, keepdim=True)).squeeze(2)
    return hit.where(seen.flatten(2).any(dim=2), -1)


def report(found: dict, note: str) -> None:
    """Prints the errors, each with what it is of."""
    mpjpe, pa = (1000 * metric(found['found'], found['true'])
                 for metric in (cal_mpjpe, cal_pa_mpjpe))
    n = len(found['found'])
    print(f'''MPJPE     {mpjpe:7.1f} mm  {n} images, 14 joints, pelvis = regressor row 0; {note}
PA-MPJPE  {pa:7.1f} mm  the same after Procrustes alignment
vertices  {1000 * found['vertices'].mean():7.1f} mm  all vertices, not aligned''')
    if 'pointed' in found and (found['pointed'] >= 0).any():
        seen = found['pointed'] >= 0
        print(f'pointing  {100 * found["pointed"][seen].mean():7.1f} %   of {seen.sum()} visible '
              f'parts have the peak of their attention within a cell')
    print('\njoint      mean error')
    for name, error in zip(EVALUATED, cal_joint_error(found['found'], found['true'])):
        print(f'{name:9}  {1000 * error:.1f} mm')


def score(args: argparse.Namespace) -> None:
    """Measures, prints and draws."""
    device = pick_device(args.device)
    model, options = load_model(args.model, device)
    if args.body_dir:
        bodies = {gender: load_body(find_body(args.body_dir, name))
                  for gender, name in GENDERS.items()
                  if gender == 'neutral' or args.gt_gender == 'file'}
    else:
        bodies = {'neutral': load_body(args.body) if args.body else make_body()}
    people = People(args.data, bodies['neutral'], args.images, options['resolution'])
    genders = ['neutral'] * len(people)
    if args.gt_gender == 'file' and args.body_dir and 'gender' in people.set:
        genders = people.set['gender'].tolist()
    found = measure(model, people, bodies, genders, device)
    report(found, f'true bodies {"of the gender in the file" if len(bodies) > 1 else "neutral"}')
    args.plots.mkdir(parents=True, exist_ok=True)
    draw(args, model, people, bodies['neutral'], found, device)
    print(f'\nwrote pictures to {args.plots}')


def find_body(folder: Path, name: str) -> Path:
    """name.npz or name.pkl in a folder. Raises ValueError where there is neither."""
    for path in (folder / f'{name}.npz', folder / f'{name}.pkl'):
        if path.exists():
            return path
    raise ValueError(f'{folder}: found neither {name}.npz nor {name}.pkl')


# ---- pictures -----------------------------------------------------------------------------------

def draw(args, model, people, arrays: dict, found: dict, device) -> None:
    """All pictures of a score."""
    errors = 1000 * cal_mpjpe(found['found'], found['true'], avg=False)
    order = errors.argsort().tolist()
    middle = [order[round(place * (len(order) - 1))] for place in (.1, .3, .5, .7)]
    for name, rows in (('examples', middle), ('worst', order[-4:][::-1])):
        plots.draw_examples(examples(model, people, arrays, rows, errors, device),
                            args.plots / f'{name}.png')
    plots.draw_joint_error(1000 * cal_joint_error(found['found'], found['true']).numpy(), EVALUATED,
                           args.plots / 'joint_error.png')
    if 'visible' in people.set:
        visible = people.set['visible']
        plots.draw_visible({args.model.name: (by_visible(visible, visible),
                                              by_visible(visible, errors.numpy())[None])},
                           '', args.plots / 'visible.png')
    sample = people[middle[0]]
    image = sample['image'][None].to(device)
    with torch.no_grad():
        output = model(image)
    if 'attention' in output:
        plots.draw_attention(picture(image[0]), output['attention'][0].cpu().numpy(),
                             args.plots / 'attention.png')
    plots.draw_sensitivity(picture(image[0]), sample['labels'].numpy(),
                           sensitivity(model, sample, arrays, device),
                           args.plots / 'sensitivity.png')


def picture(image: Tensor) -> np.ndarray:
    """Bytes (H, W, 3) of a standardised image (3, H, W)."""
    image = np.moveaxis(image.cpu().numpy(), 0, 2) * STD + MEAN
    return (255 * image).clip(0, 255).astype(np.uint8)


@torch.no_grad()
def examples(model, people, arrays: dict, rows, errors, device) -> list[tuple]:
    """For each row a title and pictures: image, true and found parts, mesh over it and aside."""
    body, faces, result = Body(arrays).to(device), arrays['f'].astype(np.int64), []
    for row in rows:
        sample = people[row]
        output = model(sample['image'][None].to(device))
        vertices = body(output['betas'], output['rotations'])[0][0].cpu().numpy()
        camera, image = output['camera'][0].cpu().numpy(), picture(sample['image'])
        parts = output['parts'][0].argmax(dim=0).cpu().numpy() if 'parts' in output else None
        blank = np.full_like(image, 255)
        result.append((f'{errors[row]:.0f} mm', image, sample['labels'].numpy(), parts,
                       overlay(image, vertices, faces, camera),
                       overlay(blank, from_the_side(vertices), faces, camera)))
    return result


@torch.no_grad()
def sensitivity(model, sample: dict, arrays: dict, device, n: int = 16) -> np.ndarray:
    """MPJPE in mm (n, n) with a grey square, a fifth of the image wide, at each place."""
    body = Body(arrays).to(device)
    regressor = torch.from_numpy(arrays['J_regressor_h36m']).to(device)
    image, size = sample['image'], sample['image'].shape[1]
    hidden = image.repeat(n * n, 1, 1, 1)
    for place in range(n * n):
        low = [round((at + .5) / n * size - .1 * size) for at in divmod(place, n)]
        high = [at + round(.2 * size) for at in low]
        hidden[place, :, max(low[0], 0):high[0], max(low[1], 0):high[1]] = 0
    joints = []
    for part in (*hidden.split(64), None):
        output = model(part.to(device)) if part is not None else {
            key: sample[key][None].to(device) for key in ('betas', 'rotations')}
        points = regressor @ body(output['betas'], output['rotations'])[0]
        joints.append(points[:, ROWS] - points[:, :1])
    *found, truth = joints
    found = torch.cat(found)
    return 1000 * cal_mpjpe(found, truth.expand_as(found), avg=False).view(n, n).cpu().numpy()


# ---- one's own photograph -----------------------------------------------------------------------

@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    """Regresses the body in a box of a photograph; writes the mesh and the parameters."""
    device = pick_device(args.device)
    model, options = load_model(args.model, device)
    arrays = load_body(args.body) if args.body else make_body()
    photo = read_photo(args.photo)
    x, y, width, height = args.box or (0, 0, *photo.size)
    if width <= 0 or height <= 0 or x >= photo.width or y >= photo.height or min(
            x + width, y + height) <= 0:
        raise ValueError(f'--box: found {x:g} {y:g} {width:g} {height:g}, expected a box that '
                         f'meets the image of {photo.width} by {photo.height}')
    centre, side = (x + width / 2, y + height / 2), 1.2 * max(width, height)
    crop = warp(photo, crop_matrix(centre, side, options['resolution']), options['resolution'])
    image = torch.from_numpy(standardise(crop))[None].to(device)
    output = model(image)
    vertices, joints = Body(arrays).to(device)(output['betas'], output['rotations'])
    shift = full_translation(output['camera'].cpu(), torch.tensor([centre]), torch.tensor([side]),
                             torch.tensor([photo.size]))
    vertices = vertices[0].cpu().numpy()
    found = {'pose': matrix_to_axis_angle(output['rotations'])[0].flatten(),
             'betas': output['betas'][0], 'pred_cam': output['camera'][0],
             'translation': shift[0], 'joints': joints[0]}
    write_npz(args.out, {'verts': vertices} | {key: value.cpu().numpy()
                                               for key, value in found.items()})
    if args.obj:
        with open(args.obj, 'w') as file:
            file.writelines(f'v {a:.6f} {b:.6f} {c:.6f}\n' for a, b, c in vertices * (1, -1, -1))
            file.writelines(f'f {a} {b} {c}\n' for a, b, c in arrays['f'].astype(int) + 1)
    mesh = overlay(crop, vertices, arrays['f'].astype(np.int64), output['camera'][0].cpu().numpy())
    Image.fromarray(np.hstack([crop, mesh])).save(args.out.with_suffix('.png'))
    print(f'wrote {args.out}, {args.out.with_suffix(".png")}', f'and {args.obj}' * bool(args.obj))


def main(argv=None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    running = argv[:1] == ['run']
    parser = argparse.ArgumentParser(description='Scores a regressor of the SMPL body; "run" '
                                     'PHOTO applies it.',
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.error = lambda message: parser.exit(2, f'pare.eval: {message}\n')
    option = parser.add_argument
    if running:
        option('photo', type=Path, help='an image')
        option('--model', type=Path, default='pareModel', help='weights')
        option('--box', type=float, nargs=4, metavar='N', help='x y w h of the person, in '
               'pixels of the photograph as it is seen')
        option('--out', type=Path, default='person.npz', metavar='FILE', help='parameters')
        option('--obj', type=Path, metavar='FILE', help='the mesh')
    else:
        option('model', type=Path, nargs='?', default='pareModel', help='weights')
        option('--data', type=Path, default=TEST_FILE, metavar='FILE', help='set, .npz')
        option('--images', type=Path, default=Path(), metavar='FOLDER', help='where imgname begins')
        option('--body-dir', type=Path, metavar='FOLDER', help='SMPL_NEUTRAL, _MALE and _FEMALE')
        option('--gt-gender', choices=('file', 'neutral'), default='file', help='of the true body')
        option('--plots', type=Path, default=Path('pare/plots'), metavar='FOLDER', help='pictures')
    option('--body', type=Path, metavar='FILE', help='SMPL model; else the stand-in')
    option('--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='auto: a GPU if any')
    try:
        (run if running else score)(parser.parse_args(argv[running:]))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == '__main__':
    sys.exit(main())
