"""Draws charts and pictures of pare/. Each draw_ function writes a PNG and opens no window."""
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

BLUE, ORANGE, GREEN, PINK, GREY = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#555555'


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=110, layout='constrained')


def _tidy(ax, title: str, xlabel: str = '', ylabel: str = '') -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc='left', fontsize=10)
    ax.spines[['top', 'right']].set_visible(False)
    ax.grid(alpha=.25)


def _log(ax) -> None:
    """A logarithmic axis with plain numbers."""
    ax.set_yscale('log')
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _colours(labels: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) of parts, black where there is none."""
    colours = np.vstack([(0, 0, 0), colormaps['nipy_spectral'](np.linspace(.1, .95, 24))[:, :3]])
    return colours[labels.clip(min=0)]


def draw_history(history: dict, path) -> None:
    """Terms of the loss and errors of validation over the epochs."""
    figure = _figure(9, 3.2)
    loss, error = figure.subplots(1, 2)
    epochs = history['epoch']
    terms = [key for key in history if key in ('loss', 'keypoints', 'points_3d', 'pose', 'parts')]
    for key, colour in zip(terms, (GREY, BLUE, ORANGE, GREEN, PINK)):
        values = np.array(history[key], dtype=float)
        loss.plot(epochs, np.where(values > 0, values, np.nan), color=colour, marker='.',
                  label=key.replace('_', ' '))
    for key, colour, label in (('val_mpjpe', BLUE, 'MPJPE'), ('val_pa_mpjpe', ORANGE, 'PA-MPJPE')):
        error.plot(epochs, history[key], color=colour, marker='.', label=label)
    for ax in (loss, error):
        ax.legend(frameon=False)
        ax.xaxis.get_major_locator().set_params(integer=True)
    _log(loss)
    _tidy(loss, 'loss and its terms', 'epoch')
    _tidy(error, 'validation (mm)', 'epoch')
    figure.savefig(path)


def draw_examples(rows: list[tuple], path) -> None:
    """For each row title, image, true parts, found parts or None, mesh over it, mesh aside."""
    titles = ('image', 'parts', 'found parts', 'found body', 'from the side')
    figure = _figure(9, 1.8 * len(rows) + .3)
    axes = figure.subplots(len(rows), 5, squeeze=False)
    for number, (line, (title, image, truth, parts, mesh, side)) in enumerate(zip(axes, rows)):
        pictures = (image, _colours(truth), None if parts is None else _colours(parts), mesh, side)
        for ax, shown, name in zip(line, pictures, titles):
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if shown is not None:
                ax.imshow(shown)
            if number == 0:
                ax.set_title(name, fontsize=10)
        line[0].set_ylabel(title, fontsize=10)
    figure.savefig(path)


def draw_attention(image: np.ndarray, attention: np.ndarray, path) -> None:
    """The maps (24, H, W) over an image."""
    from pare.body import JOINTS

    figure = _figure(9, 6.6)
    for ax, name, part in zip(figure.subplots(4, 6).flat, JOINTS, attention):
        ax.imshow(image, extent=(0, 1, 1, 0))
        ax.imshow(part / part.max(), extent=(0, 1, 1, 0), cmap='magma', alpha=.65)
        ax.set_title(name, fontsize=9)
        ax.set_axis_off()
    figure.savefig(path)


def draw_joint_error(errors: np.ndarray, labels, path) -> None:
    """Mean error of each joint in mm, the largest on top."""
    figure = _figure(6, .8 + .24 * len(errors))
    ax = figure.subplots()
    order = np.argsort(errors)
    ax.barh([labels[joint] for joint in order], errors[order], color=BLUE)
    ax.axvline(errors.mean(), color=ORANGE, linestyle='--', label=f'MPJPE {errors.mean():.0f} mm')
    ax.legend(frameon=False, loc='lower right')
    _tidy(ax, 'mean error of each joint (mm)')
    ax.grid(visible=False, axis='y')
    figure.savefig(path)


def draw_visible(errors: dict, spread: str, path) -> None:
    """Error over the visible share of the body; `errors` maps a label to shares (G,) and errors
    (runs, G) of groups of images, and `spread` says what the bars are. Groups that are as visible
    are one."""
    figure = _figure(6, 3.4)
    ax = figure.subplots()
    for (label, (shares, values)), colour in zip(errors.items(), (BLUE, ORANGE, GREEN)):
        distinct, group = np.unique(shares.round(2), return_inverse=True)
        values = np.stack([values[:, group == number].mean(axis=1)
                           for number in range(len(distinct))], axis=1)
        ax.errorbar(distinct, values.mean(axis=0), values.std(axis=0) if spread else None,
                    color=colour, marker='o', capsize=3, label=label)
    ax.legend(frameon=False, title=f'bars: {spread}' if spread else None)
    _tidy(ax, 'error of those who are hidden', 'visible share of the body', 'MPJPE (mm)')
    figure.savefig(path)


def draw_sensitivity(image: np.ndarray, labels: np.ndarray, errors: np.ndarray, path) -> None:
    """MPJPE (n, n) where a square hides the image; the outline is that of the parts (h, w)."""
    figure = _figure(6, 3)
    plain, ax = figure.subplots(1, 2)
    plain.imshow(image, extent=(0, 1, 1, 0))
    heat = ax.imshow(errors, extent=(0, 1, 1, 0), cmap='inferno')
    if (labels > 0).any():
        places = [(np.arange(n) + .5) / n for n in labels.shape[::-1]]
        ax.contour(*places, labels > 0, levels=[.5], colors='white', linewidths=1)
    figure.colorbar(heat, ax=ax, label='MPJPE (mm)')
    plain.set_title('image', loc='left', fontsize=10)
    ax.set_title('with a square hidden here', loc='left', fontsize=10)
    for each in (plain, ax):
        each.set_axis_off()
    figure.savefig(path)


def draw_ladder(rows: list[dict], path) -> None:
    """Test errors of the rungs, all and the most occluded, each seed and the mean."""
    names = list(dict.fromkeys(row['rung'] for row in rows))
    figure = _figure(8, .9 + .5 * len(names))
    ax = figure.subplots()
    for column, colour, label, shift in (('mpjpe', BLUE, 'all', .1),
                                         ('occluded', ORANGE, 'the most occluded 30 %', -.1)):
        for place, name in enumerate(reversed(names)):
            values = [float(row[column]) for row in rows if row['rung'] == name]
            ax.plot(values, len(values) * [place + shift], '.', color=colour, alpha=.5)
            ax.plot(np.mean(values), place + shift, 'o', color=colour,
                    label=label if place == 0 else None)
    ax.set_yticks(range(len(names)), reversed(names))
    ax.legend(frameon=False)
    _tidy(ax, 'MPJPE on the test set (mm)')
    figure.savefig(path)


def draw_courses(rows: list[dict], path) -> None:
    """Loss and validation error of the rungs over the epochs, means over seeds."""
    figure = _figure(9, 4)
    loss, error = figure.subplots(1, 2)
    names = list(dict.fromkeys(row['rung'] for row in rows))
    for name, colour in zip(names, colormaps['viridis'](np.linspace(0, .9, len(names)))):
        for ax, column in ((loss, 'loss'), (error, 'val_mpjpe')):
            values = {}
            for row in rows:
                if row['rung'] == name:
                    values.setdefault(int(row['epoch']), []).append(float(row[column]))
            ax.plot(list(values), list(map(np.mean, values.values())), color=colour, marker='.',
                    label=name)
    _log(loss)
    _tidy(loss, 'loss', 'epoch')
    _tidy(error, 'MPJPE in validation (mm)', 'epoch')
    figure.legend(*loss.get_legend_handles_labels(), loc='outside lower center', ncols=3,
                  frameon=False)
    figure.savefig(path)
