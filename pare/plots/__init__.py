"""Draw charts and pictures of pare/. Each draw_ function writes a PNG and opens no window."""
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator

from common.charts import BLUE, GREEN, GREY, ORANGE, PINK, log_axis, new_figure, save_figure, tidy
from pare.body import JOINTS

REPORT = Path(__file__).parent / 'report'  # what pare/README.md shows


def _colours(labels: np.ndarray) -> np.ndarray:
    """Return colours (H, W, 3) of parts, black for none."""
    colours = np.vstack([(0, 0, 0), colormaps['nipy_spectral'](np.linspace(.1, .95, 24))[:, :3]])
    return colours[labels.clip(min=0)]


def draw_history(history: dict, path) -> None:
    """Draw terms of the loss and errors of validation over the epochs."""
    figure = new_figure(9, 3.2)
    loss, error = figure.subplots(1, 2)
    epochs, terms = history['epoch'], ('loss', 'keypoints', 'points_3d', 'pose', 'parts', 'places')
    for key, colour in zip(terms, ('black', BLUE, ORANGE, GREEN, PINK, GREY)):
        values = np.array(history[key], dtype=float)
        loss.plot(epochs, np.where(values > 0, values, np.nan), color=colour, marker='.',
                  label=key.replace('_', ' '))
    for key, colour, label in (('val_mpjpe', BLUE, 'MPJPE'), ('val_pa_mpjpe', ORANGE, 'PA-MPJPE')):
        error.plot(epochs, history[key], color=colour, marker='.', label=label)
    for ax in (loss, error):
        ax.legend(frameon=False, loc='upper left', bbox_to_anchor=(1, 1))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    log_axis(loss)
    tidy(loss, 'loss and its terms, weighted', 'epoch')
    tidy(error, 'validation (mm)', 'epoch')
    save_figure(figure, path)


def draw_examples(rows: list[tuple], path) -> None:
    """Draw rows of title, image, true parts, found parts or None, found body over the image, found
    body and true body, or None, from the side."""
    titles = ('image', 'true parts', 'found parts', 'found body', 'found, side', 'true, side')
    figure = new_figure(11, 1.85 * len(rows) + .3)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for number, (line, (title, image, truth, parts, *bodies)) in enumerate(zip(axes, rows)):
        pictures = (image, _colours(truth), None if parts is None else _colours(parts), *bodies)
        for ax, shown, name in zip(line, pictures, titles):
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if shown is not None:
                ax.imshow(shown)
            if number == 0:
                ax.set_title(name, fontsize=10)
        line[0].set_ylabel(title, fontsize=10)
    save_figure(figure, path)


def draw_attention(image: np.ndarray, attention: np.ndarray, path) -> None:
    """Draw the maps (24, H, W) over an image."""
    figure = new_figure(9, 6.6)
    for ax, name, part in zip(figure.subplots(4, 6).flat, JOINTS, attention):
        ax.imshow(image, extent=(0, 1, 1, 0))
        ax.imshow(part / part.max(), extent=(0, 1, 1, 0), cmap='magma', alpha=.65)
        ax.set_title(name, fontsize=9)
        ax.set_axis_off()
    save_figure(figure, path)


def draw_visible(shares, means, spreads, counts, path) -> None:
    """Draw the error over the visible share of the body: shares, means, standard errors and numbers
    (G,) of groups of people."""
    figure = new_figure(6, 3.4)
    ax = figure.subplots()
    ax.errorbar(shares, means, spreads, color=BLUE, marker='o', capsize=3,
                label='mean and standard error, number of people')
    for share, mean, count in zip(shares, means, counts):
        ax.annotate(f'{count:.0f}', (share, mean), (6, 4), textcoords='offset points', fontsize=8)
    ax.legend(frameon=False)
    tidy(ax, 'error of people who are partly hidden', 'visible share of the body', 'MPJPE (mm)')
    save_figure(figure, path)


def draw_sensitivity(image: np.ndarray, labels: np.ndarray, errors: np.ndarray, plain: float,
                     path) -> None:
    """Draw the MPJPE (n, n) with a square at each place, minus `plain`, the MPJPE without one, and
    the outline of the parts (h, w)."""
    figure = new_figure(6.4, 3)
    left, right = figure.subplots(1, 2)
    left.imshow(image, extent=(0, 1, 1, 0))
    change = errors - plain
    most = max(abs(change).max(), 1.)
    heat = right.imshow(change, extent=(0, 1, 1, 0), cmap='RdBu_r', vmin=-most, vmax=most)
    if (labels > 0).any():
        places = [(np.arange(n) + .5) / n for n in labels.shape[::-1]]
        right.contour(*places, labels > 0, levels=[.5], colors='black', linewidths=1)
    figure.colorbar(heat, ax=right, label='change of MPJPE (mm)')
    left.set_title(f'image, MPJPE {plain:.0f} mm', loc='left', fontsize=10)
    right.set_title('with a grey square here', loc='left', fontsize=10)
    for ax in (left, right):
        ax.set_axis_off()
    save_figure(figure, path)


def draw_ladder(rows: dict, path) -> None:
    """Draw the MPJPE of the rungs, {(rung, seed): errors by name}, each seed and the mean.

    One chart is of people, all and the most hidden, one of joints, visible and hidden. The first
    rung is the mean pose and the second the floor; both are drawn as vertical lines.
    """
    top, floor, *names = dict.fromkeys(name for name, _ in rows)
    figure = new_figure(9, 1.6 + .42 * len(names))
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, title, lines in zip(axes, ('people', 'joints'), (
            (('mpjpe', BLUE, 'all people', .1), ('hidden', ORANGE, 'the most hidden 30 %', -.1)),
            (('seen_joints', GREEN, 'visible joints', .1),
             ('hidden_joints', PINK, 'hidden joints', -.1)))):
        for column, colour, label, shift in lines:
            means = {name: [row[column] for key, row in rows.items() if key[0] == name]
                     for name in (top, floor, *names)}
            for place, name in enumerate(reversed(names)):
                ax.plot(means[name], len(means[name]) * [place + shift], '.', color=colour,
                        alpha=.5)
                ax.plot(np.mean(means[name]), place + shift, 'o', color=colour,
                        label=label if place == 0 else None)
            for end, style in ((top, '--'), (floor, ':')):
                ax.axvline(np.mean(means[end]), color=colour, linestyle=style, linewidth=1,
                           label=end if colour == BLUE else None)
        tidy(ax, title, 'MPJPE on the test set (mm)')
    axes[0].set_yticks(range(len(names)), reversed(names))
    figure.legend(loc='outside lower center', ncols=3, frameon=False)
    save_figure(figure, path)


def draw_courses(rows: dict, path) -> None:
    """Draw loss and validation error of the rungs, {(rung, seed, epoch): (samples, loss, mpjpe)},
    over the images seen, means over seeds."""
    figure = new_figure(9, 4)
    loss, error = figure.subplots(1, 2)
    names = list(dict.fromkeys(name for name, *_ in rows))
    for name, colour in zip(names, colormaps['viridis'](np.linspace(0, .9, len(names)))):
        for ax, column in ((loss, 1), (error, 2)):
            values = {}
            for key, row in rows.items():
                if key[0] == name:
                    values.setdefault(row[0], []).append(row[column])
            ax.plot(list(values), list(map(np.mean, values.values())), color=colour, marker='.',
                    label=name)
    log_axis(loss)
    tidy(loss, 'loss', 'images seen')
    tidy(error, 'MPJPE in validation (mm)', 'images seen')
    figure.legend(*loss.get_legend_handles_labels(), loc='outside lower center', ncols=2,
                  frameon=False)
    save_figure(figure, path)
