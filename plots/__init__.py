"""Draws charts and skeletons from numbers. Each draw_ function writes a PNG and opens no window."""
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

# safe for the colour-blind: Okabe and Ito, "Color Universal Design", 2008
BLUE, ORANGE, GREEN, PINK, GREY = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#555555'
UNIT = 'unit: camera to root'


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=110, layout='constrained')  # its canvas is Agg


def _tidy(ax, title: str, xlabel: str, ylabel: str = '') -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc='left', fontsize=10)
    ax.spines[['top', 'right']].set_visible(False)
    ax.grid(alpha=.25)


# ---- charts -------------------------------------------------------------------------------------

def draw_history(history: dict, path) -> None:
    """Columns epoch, loss, val_loss, train_mpjpe, val_mpjpe and rate, each over the first; where
    an MPJPE is nan it is not drawn."""
    figure = _figure(9, 3)
    epochs, style = history['epoch'], {'marker': '.' if len(history['epoch']) < 40 else ''}
    loss, mpjpe, rate = figure.subplots(1, 3)
    rate.plot(epochs, history['rate'], color=GREY, **style)
    _tidy(loss, 'loss', 'epoch')
    _tidy(mpjpe, f'MPJPE ({UNIT})', 'epoch')
    _tidy(rate, 'learning rate', 'epoch')
    for ax, learnt, validated in ((loss, 'loss', 'val_loss'), (mpjpe, 'train_mpjpe', 'val_mpjpe')):
        if np.isnan(history[learnt]).any():
            ax.text(.5, .5, 'no joint_3d to compare with', ha='center', transform=ax.transAxes)
            ax.set_axis_off()
            continue
        ax.semilogy(epochs, history[learnt], color=BLUE, label='training', **style)
        ax.semilogy(epochs, history[validated], '--', color=ORANGE, label='validation', **style)
        ax.legend(frameon=False)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 4, 5, 7)))
        ax.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        ax.yaxis.set_minor_formatter(NullFormatter())
    for ax in (loss, mpjpe, rate):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path)


def draw_joint_error(errors: np.ndarray, labels, path) -> None:
    """Mean error of each joint (J,), the largest on top, and the mean over joints."""
    figure = _figure(7, .8 + .24 * len(errors))
    ax = figure.subplots()
    order = np.argsort(errors)
    ax.barh([labels[joint] for joint in order], errors[order], color=BLUE)
    ax.axvline(errors.mean(), color=ORANGE, linestyle='--', label=f'MPJPE {errors.mean():.5f}')
    ax.legend(frameon=False, loc='lower right')
    _tidy(ax, 'mean error of each joint', f'distance from ground truth ({UNIT})')
    ax.grid(visible=False, axis='y')
    figure.savefig(path)


def draw_error_curve(errors: dict, path) -> None:
    """Share of errors within a threshold; `errors` maps up to three labels to arrays."""
    figure = _figure(7, 3.4)
    ax = figure.subplots()
    styles = ((BLUE, '-'), (ORANGE, '--'), (GREEN, ':'))
    for (label, values), (colour, line) in zip(errors.items(), styles):
        label = f'{label}, median {np.median(values):.4f}'
        ax.ecdf(np.ravel(values), linestyle=line, color=colour, linewidth=2, label=label)
    ax.set(xlim=(0, max(np.quantile(values, .99) + 1e-6 for values in errors.values())))
    ax.yaxis.set_major_formatter(lambda share, _: f'{100 * share:.0f} %')
    ax.legend(frameon=False, loc='lower right')
    _tidy(ax, 'cumulative error', f'distance from ground truth ({UNIT})', 'share within it')
    figure.savefig(path)


def draw_weak(errors: dict, path) -> None:
    """MPJPE over the noise of the 2D points, and its ratio to that of 'supervised'.

    `errors` maps a way of learning to {noise: MPJPE}; what has two views at test time begins with
    'classic' and stands beside the others in the first chart alone. Dashed: both lifts must agree.
    """
    figure = _figure(10, 4)
    whole, ratio = figure.subplots(1, 2)
    colours = {'supervised': 'black', 'triangulation': BLUE, 'reprojection': ORANGE,
               'both': GREEN, 'classic': PINK}
    noises = sorted({noise for points in errors.values() for noise in points})
    for way, points in errors.items():
        name, _, agreement = way.partition(', ')
        style = {'color': colours[name], 'marker': 'o', 'markersize': 4,
                 'linestyle': '--' if agreement == 'agreement' else '-'}
        places = [noises.index(noise) for noise in points]
        values = np.array([points[noise] for noise in points])
        if name in ('supervised', 'classic') or way == 'reprojection, agreement':
            whole.plot(places, values, label=way, **style)
        if name != 'classic':
            base = np.array([errors['supervised'].get(noise, np.nan) for noise in points])
            ratio.plot(places, values / base, label=way, **style)
    for ax in (whole, ratio):
        ax.set_xticks(range(len(noises)), [f'{noise:g}' if noise else 'exact' for noise in noises])
        ax.legend(frameon=False, fontsize=8)
    whole.set_ylim(bottom=0)
    xlabel = 'noise of the 2D joints (standard deviation)'
    _tidy(whole, f'MPJPE on the test set ({UNIT})', xlabel)
    _tidy(ratio, 'its ratio to that of supervised learning', xlabel)
    figure.savefig(path)


def draw_network(charts: dict, path) -> None:
    """Error of networks over that of the default, a chart for each question.

    `charts` maps a question to (label, {data: values}), values (n_seeds, 4): validation MPJPE, test
    MPJPE, seconds, parameters. The first of all is the default. Times are the shortest of the
    seeds, on the first data.
    """
    figure = _figure(10.5, 6.2)
    first = next(iter(charts.values()))[0][1]
    default = {data: values[:, :2].mean(axis=0) for data, values in first.items()}
    timed = next(iter(first))
    colours = dict(zip(default, (BLUE, ORANGE, GREEN)))
    axes = figure.subplots(2, 3, sharey='row').flat
    for ax, (question, variants) in zip(axes, charts.items()):
        labels = []
        for place, (label, found) in enumerate(variants):
            for data, values in found.items():
                val, test = (values[:, :2] / default[data]).T
                shift = place + .14 * (list(colours).index(data) - (len(colours) - 1) / 2)
                ax.errorbar(shift, test.mean(), test.std(), color=colours[data], marker='o',
                            capsize=4)
                ax.plot(shift, val.mean(), color=colours[data], marker='o', markerfacecolor='white',
                        markersize=5)
            if timed in found:
                seconds, n_parameters = found[timed].min(axis=0)[2:]
                ratio = seconds / first[timed].min(axis=0)[2]
                label += f'\n{n_parameters / 1e6:.1f} M\n{ratio:.1f} t'
            labels.append(label)
        ax.axhline(1, color=GREY, linewidth=.8)
        ax.set_xticks(range(len(labels)), labels, fontsize=8)
        ax.margins(x=.2)
        _tidy(ax, question, '', 'MPJPE over the default\'s' if ax.get_subplotspec().is_first_col()
              else '')
        ax.grid(visible=False, axis='x')
    keys = [Line2D([], [], color=colour, marker='o', label=f'{data}, test')
            for data, colour in colours.items()]
    keys.append(Line2D([], [], color=GREY, marker='o', markerfacecolor='white', linestyle='',
                       label='validation'))
    keys.append(Line2D([], [], linestyle='', label='M: million parameters, t: training time'))
    figure.legend(handles=keys, loc='outside lower center', ncols=len(keys), frameon=False)
    figure.savefig(path)


def draw_errors(charts: dict, path) -> None:
    """Where the error comes from, whole, along the ray and across it.

    `charts` maps 'joint', 'view' and 'unusual' to {x: (error, along, across, low, high)}, means and
    the quartiles of the error.
    """
    figure = _figure(10, 3.8)
    joint, view, unusual = figure.subplots(1, 3)
    names, values = zip(*sorted(charts['joint'].items(), key=lambda pair: pair[1][0]))
    rows = np.arange(len(names))
    for column, shift, colour, label in ((1, .2, BLUE, 'along the ray'),
                                         (2, -.2, ORANGE, 'across it')):
        joint.barh(rows + shift, np.array(values)[:, column], .4, color=colour, label=label)
    joint.set_yticks(rows, names)
    joint.locator_params(axis='x', nbins=4)
    _tidy(joint, 'by joint', f'mean error ({UNIT})')
    joint.grid(visible=False, axis='y')
    for ax, chart, title, xlabel in (
            (view, 'view', 'by view', 'turn of the body from the camera (degrees)'),
            (unusual, 'unusual', 'by pose', 'distance to the nearest training pose')):
        x = np.array([float(at) for at in charts[chart]])
        error, along, across, low, high = np.transpose(list(charts[chart].values()))
        ax.fill_between(x, low, high, color=GREY, alpha=.2, linewidth=0, label='quartiles')
        ax.plot(x, error, color=GREY, linewidth=5, alpha=.4, label='whole')
        ax.plot(x, along, color=BLUE, marker='.')
        ax.plot(x, across, color=ORANGE, marker='.')
        ax.set_ylim(bottom=0)
        _tidy(ax, title, xlabel, '')
    view.set_xticks(range(0, 181, 45))
    handles, labels = (sum(parts, []) for parts in zip(
        joint.get_legend_handles_labels(), view.get_legend_handles_labels()))
    figure.legend(handles, labels, loc='outside lower center', ncols=4, frameon=False)
    figure.savefig(path)


# ---- skeletons ----------------------------------------------------------------------------------

def bone_colours(bones, names) -> list[str]:
    """Left blue, right orange, trunk grey by a joint's first letter; without names, by limb."""
    if names is not None:
        return [{'L': BLUE, 'R': ORANGE}.get(names[child][0], GREY) for _, child in bones]
    parents, limb = [parent for parent, _ in bones], {}
    for parent, child in bones:  # a limb ends where the tree forks
        goes_on = parent in limb and parents.count(parent) == 1
        limb[child] = limb[parent] if goes_on else 1 + max(limb.values(), default=-1)
    palette = (BLUE, ORANGE, GREEN, PINK, GREY)
    return [palette[limb[child] % len(palette)] for _, child in bones]


def draw_gallery(rows, bones, names, path) -> None:
    """For each row (title, joint_2d (J, 2), ground truth (J, 3) or None, prediction (J, 3)) the 2D
    input, the camera with both skeletons, and these from the side, where depth shows."""
    figure = _figure(9, 2.9 * len(rows) + .4)
    grid = figure.add_gridspec(len(rows), 3, width_ratios=(1, 1.25, 1))
    colours = bone_colours(bones, names)
    solid, dashed = {'linewidth': 3, 'alpha': .4}, {'linewidth': 1.3, 'linestyle': '--'}
    for row, (title, joint_2d, truth, prediction) in enumerate(rows):
        image, scene, side = (figure.add_subplot(grid[row, column], projection=projection)
                              for column, projection in enumerate((None, '3d', None)))
        _draw_bones(image, np.vstack([joint_2d, (0, 0)]), bones, colours, linewidth=2)
        for joint_3d, style in ((truth, solid), (prediction, dashed)):
            if joint_3d is not None:
                joints = np.vstack([joint_3d, (0, 0, -1)])[:, [0, 2, 1]] * (1, -1, 1)
                _draw_bones(scene, joints, bones, colours, **style)
                _draw_bones(side, joints[:, 1:], bones, colours, **style)
        _draw_camera(scene, joints)
        scene.set_title('camera and skeletons', loc='left', fontsize=10)
        _tidy(image, f'{title}: 2D input', '')
        _tidy(side, 'from the side', f'depth ({UNIT})', 'height')
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
    figure.savefig(path)


def _draw_bones(ax, joints: np.ndarray, bones, colours, **style) -> None:
    """Joints (J + 1, 2) or (J + 1, 3), the root last, in the axes of ax."""
    for bone, colour in zip(bones, colours):
        ax.plot(*joints[list(bone)].T, color=colour, **style)


def _draw_camera(ax, joints: np.ndarray) -> None:
    """The camera at the origin, a pyramid, and its rays to joints (J + 1, 3): right, away, up."""
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
