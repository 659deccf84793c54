"""Charts and skeletons; each draw_ function with a path writes a PNG and opens no window."""
import os
import sys

import numpy as np

if 'ipykernel' not in sys.modules:  # commands that a notebook starts cannot use its backend
    os.environ['MPLBACKEND'] = 'agg'

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from common.camera import ROOT
from common.files import atomic

# safe for the colour-blind: Okabe and Ito, "Color Universal Design", 2008
BLUE, ORANGE, GREEN, PINK, GREY = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#555555'
UNIT = 'unit: camera to root'
CM = 450  # in a unit, for a person 4.5 m from the camera


# ---- style --------------------------------------------------------------------------------------

def new_figure(width: float, height: float) -> Figure:
    """Make a figure, sizes in inches, that opens no window."""
    return Figure(figsize=(width, height), dpi=110, layout='constrained')  # its canvas is Agg


def tidy(ax, title: str, xlabel: str = '', ylabel: str = '') -> None:
    """Set title at the left, labels, no frame, a faint grid."""
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc='left', fontsize=10)
    ax.spines[['top', 'right']].set_visible(False)
    ax.grid(alpha=.25)


def log_axis(ax, ticks=(1, 2, 5)) -> None:
    """Make y logarithmic, with plain numbers at these multiples of powers of 10."""
    ax.set_yscale('log')
    ax.yaxis.set_major_locator(LogLocator(subs=ticks))
    ax.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    ax.yaxis.set_minor_formatter(NullFormatter())


def add_cm(ax, axis: str = 'y') -> None:
    """Repeat an axis of errors on the other side, in cm for a person 4.5 m from the camera."""
    other = ax.secondary_yaxis if axis == 'y' else ax.secondary_xaxis
    other('right' if axis == 'y' else 'top', functions=(
        lambda error: CM * error, lambda cm: cm / CM)).set(**{f'{axis}label': 'cm at 4.5 m'})


def save_figure(figure: Figure, path) -> None:
    """Write a PNG."""
    with atomic(path) as file:
        figure.savefig(file, format='png')


# ---- charts -------------------------------------------------------------------------------------

def draw_history(history: dict, path, crossed: float) -> None:
    """Draw loss, MPJPE and learning rate over the epochs; an MPJPE of NaN is left out.

    `history` has the columns epoch, loss, val_loss, train_mpjpe, val_mpjpe and rate. Poses are
    crossed for the fraction `crossed` of the epochs, which may be 0.
    """
    figure = new_figure(9, 3)
    epochs, style = history['epoch'], {'marker': '.' if len(history['epoch']) < 40 else ''}
    loss, mpjpe, rate = figure.subplots(1, 3)
    rate.plot(epochs, history['rate'], color=GREY, **style)
    tidy(loss, 'loss', 'epoch')
    tidy(mpjpe, f'MPJPE ({UNIT})', 'epoch')
    tidy(rate, 'learning rate', 'epoch')
    for ax, learnt, validated in ((loss, 'loss', 'val_loss'), (mpjpe, 'train_mpjpe', 'val_mpjpe')):
        if np.isnan(history[learnt]).any():
            ax.text(.5, .5, 'no joint_3d to compare with', ha='center', transform=ax.transAxes)
            ax.set_axis_off()
            continue
        ax.plot(epochs, history[learnt], color=BLUE, label='training', **style)
        ax.plot(epochs, history[validated], '--', color=ORANGE, label='validation', **style)
        if crossed:
            ax.axvline(np.ceil(crossed * len(epochs)) + .5, color=GREY, linestyle=':',
                       label='crossed poses end')
        ax.legend(edgecolor='none', fontsize=8)
        log_axis(ax, ticks=(1, 1.2, 1.5, 2, 3, 4, 5, 7))
    for ax in (loss, mpjpe, rate):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, path)


def draw_joint_error(errors: np.ndarray, labels, path, unit: str = UNIT, digits: int = 5) -> None:
    """Draw the mean error of each joint (J,), the largest on top, and the mean over joints."""
    figure = new_figure(7, .8 + .24 * len(errors))
    ax = figure.subplots()
    order = np.argsort(errors)
    ax.barh([labels[joint] for joint in order], errors[order], color=BLUE)
    label = f'MPJPE {errors.mean():.{digits}f}'
    ax.axvline(errors.mean(), color=ORANGE, linestyle='--', label=label)
    ax.legend(frameon=False, loc='lower right')
    tidy(ax, 'mean error of each joint', f'distance from ground truth ({unit})')
    if unit == UNIT:
        add_cm(ax, 'x')
    ax.grid(visible=False, axis='y')
    save_figure(figure, path)


def draw_error_curve(errors: dict, path) -> None:
    """Draw the share of errors within a threshold; `errors` maps up to three labels to arrays."""
    figure = new_figure(7, 3.4)
    ax = figure.subplots()
    styles = ((BLUE, '-'), (ORANGE, '--'), (GREEN, ':'))
    for (label, values), (colour, line) in zip(errors.items(), styles):
        label = f'{label}, median {np.median(values):.4f}'
        shown = np.ravel(values)[::np.size(values) // 100_000 + 1]  # more change nothing
        ax.ecdf(shown, linestyle=line, color=colour, linewidth=2, label=label)
    ax.set(xlim=(0, max(np.quantile(values, .99) + 1e-6 for values in errors.values())))
    ax.yaxis.set_major_formatter(lambda share, _: f'{100 * share:.0f} %')
    ax.legend(frameon=False, loc='lower right')
    tidy(ax, 'cumulative error', f'distance from ground truth ({UNIT})', 'share within it')
    add_cm(ax, 'x')
    save_figure(figure, path)


# ---- skeletons ----------------------------------------------------------------------------------

def bone_colours(bones, names) -> list[str]:
    """Choose blue for left, orange for right, grey for the trunk by the first letter of the child;
    without names, a colour for each limb."""
    if names is not None:
        return [{'L': BLUE, 'R': ORANGE}.get(names[child][0], GREY) for _, child in bones]
    parents, limb = [parent for parent, _ in bones], {}
    for parent, child in bones:  # a limb ends where the tree forks
        goes_on = parent in limb and parents.count(parent) == 1
        limb[child] = limb[parent] if goes_on else 1 + max(limb.values(), default=-1)
    palette = (BLUE, ORANGE, GREEN, PINK, GREY)
    return [palette[limb[child] % len(palette)] for _, child in bones]


def draw_gallery(rows, bones, names, path) -> None:
    """Draw the 2D input, the camera with both skeletons, and the skeletons from the side.

    A row is (title, joint_2d (J, 2), ground truth (J, 3) or None, prediction (J, 3)).
    """
    figure = new_figure(9, 2.9 * len(rows) + .4)
    grid = figure.add_gridspec(len(rows), 3, width_ratios=(1, 1.25, 1))
    colours = bone_colours(bones, names)
    solid, dashed = {'linewidth': 3, 'alpha': .4}, {'linewidth': 1.3, 'linestyle': '--'}
    for row, (title, joint_2d, truth, prediction) in enumerate(rows):
        image, scene, side = (figure.add_subplot(grid[row, column], projection=projection)
                              for column, projection in enumerate((None, '3d', None)))
        draw_bones(image, np.vstack([joint_2d, (0, 0)]), bones, colours, linewidth=2)
        image.plot(*joint_2d.T, '.', color='black', markersize=4)
        for joint_3d, style in ((truth, solid), (prediction, dashed)):
            if joint_3d is not None:
                joints = np.vstack([joint_3d, ROOT])[:, [0, 2, 1]] * (1, -1, 1)
                draw_bones(scene, joints, bones, colours, **style)
                draw_bones(side, joints[:, 1:], bones, colours, **style)
        _draw_camera(scene, joints)
        scene.set_title('camera and skeletons', loc='left', fontsize=10)
        tidy(image, f'{title}: 2D input', '')
        tidy(side, 'from the side', f'depth ({UNIT})', 'height')
        for ax in (image, side):
            ax.margins(.15)
            ax.set_aspect('equal', adjustable='datalim')
    keys = {'prediction': (GREY, dashed), 'camera and its rays': ('black', {'linewidth': .8})}
    if rows[0][2] is not None:
        keys = {'ground truth': (GREY, solid)} | keys
    if names is not None:
        keys |= {'left': (BLUE, {}), 'right': (ORANGE, {})}
    lines = [Line2D([], [], color=colour, label=label, **style)
             for label, (colour, style) in keys.items()]
    figure.legend(handles=lines, loc='outside lower center', ncols=len(lines), frameon=False)
    save_figure(figure, path)


def draw_people(picture, pixels: np.ndarray, joint_3d: np.ndarray, labels, bones, names, unit: str,
                path) -> None:
    """Draw M people over a picture (H, W, 3), from the side and from above.

    pixels (M, J + 1, 2) and joints (M, J + 1, 3) in the frame of the camera, the root last; labels
    (M,) are numbers.
    """
    figure, colours = new_figure(11, 4.6), bone_colours(bones, names)
    over, side, above = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    over.imshow(picture)
    right, up, depth = joint_3d[..., 0], joint_3d[..., 1], -joint_3d[..., 2]
    for ax, places in ((over, pixels), (side, np.stack([depth, up], axis=-1)),
                       (above, np.stack([right, depth], axis=-1))):
        draw_bones(ax, places, bones, colours, linewidth=2)
    for number, places in enumerate(pixels):
        for ax, place in ((over, (places[:, 0].mean(), places[:, 1].min())),
                          (side, (depth[number].mean(), up[number].max())),
                          (above, (right[number].mean(), depth[number].max()))):
            ax.annotate(str(labels[number]), place, (0, 4), textcoords='offset points',
                        ha='center', fontsize=9)
    over.set_axis_off()
    tidy(over, 'people by number')
    tidy(side, 'from the side', f'depth ({unit})', f'height ({unit})')
    tidy(above, 'from above, the camera at the origin', f'right ({unit})', f'depth ({unit})')
    above.plot(0, 0, '^', color='black')
    for ax in (side, above):
        ax.margins(.15)
        ax.set_aspect('equal', adjustable='datalim')
    save_figure(figure, path)


def draw_joints(joint_2d: np.ndarray, bones, names, path) -> None:
    """Draw joints (J + 1, 2), the root last, with their numbers and `names`."""
    figure = new_figure(4.6, 5)
    ax = figure.subplots()
    draw_bones(ax, joint_2d, bones, bone_colours(bones, names), linewidth=4, alpha=.5)
    texts = [f'{number} {name}' for number, name in enumerate(names[:-1])] + [names[-1]]
    places = {'R': ((-9, -3), 'right'), 'L': ((9, -3), 'left'), 'r': ((9, 2), 'left')}
    for text, name, place in zip(texts, names, joint_2d):
        shift, side = places.get(name[0], ((9, -11), 'left'))
        ax.annotate(text, place, shift, textcoords='offset points', ha=side, fontsize=8)
    ax.plot(*joint_2d.T, '.', color='black')
    ax.margins(x=.45)
    ax.set_aspect('equal')
    ax.set_axis_off()
    save_figure(figure, path)


def draw_bones(ax, joints: np.ndarray, bones, colours, **style) -> None:
    """Draw joints (..., J + 1, 2) or (..., J + 1, 3), the root last, in the axes of ax."""
    for bone, colour in zip(bones, colours):
        lines = np.insert(joints[..., list(bone), :].astype(float), 2, np.nan, axis=-2)  # with gaps
        ax.plot(*lines.reshape(-1, lines.shape[-1]).T, color=colour, **style)


def _draw_camera(ax, joints: np.ndarray) -> None:
    """Draw the camera, a pyramid at the origin, and its rays to joints (J + 1, 3): right, away, up.
    """
    half = np.abs(joints[:, [0, 2]]).max()
    corners = np.array([(-1, 1, -1), (1, 1, -1), (1, 1, 1), (-1, 1, 1)])
    corners = corners * (.36 * half, .3, .36 * half)  # on the cone of the rays
    for corner, following in zip(corners, np.roll(corners, -1, axis=0)):
        ax.plot(*np.transpose([(0, 0, 0), corner, following]), color='black', linewidth=.8)
    for joint in joints:
        ax.plot(*np.transpose([(0, 0, 0), joint]), color='black', linewidth=.4, alpha=.25)
    reach = joints[:, 1].max()
    ax.set(xlim=(-half, half), ylim=(0, reach), zlim=(-half, half))
    ax.set_box_aspect((2 * half, reach, 2 * half), zoom=1.35)
    ax.view_init(16, -48)
    ax.set_axis_off()
