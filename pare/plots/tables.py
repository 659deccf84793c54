"""Write the tables of pare/README.md, between its markers, from report/*.csv.

    python -m pare.plots.tables
"""
import csv
from pathlib import Path

import numpy as np

from common.files import Table, filled, markdown, mean_std
from pare.ladder import COLUMNS, FLOOR, MEAN
from pare.plots import REPORT

README = Path(__file__).parent.parent / 'README.md'
COMMAND = 'python -m pare.plots.tables'
MEASURES = (  # joints, from where, and the names of both errors in score.csv
    ('17 of Human3.6M', 'pelvis', 'MPJPE', 'PA-MPJPE'),
    ('16 of these, without the pelvis', 'pelvis', 'MPJPE 16', None),
    ('14 of the 3DPW protocol, as in the papers', 'pelvis', 'MPJPE 14', 'PA 14'),
    ('49 of SPIN, as in the report', 'nose', 'MPJPE 49', 'PA 49'))


def results() -> str:
    """Make one row a rung of the ladder, mean and standard deviation over seeds; then rows of the
    shipped weights and the floor."""
    found = Table(REPORT / 'ladder.csv', ('rung', 'seed'), COLUMNS).read()
    rungs = {}
    for (name, _), values in found.items():
        rungs.setdefault(name, []).append(dict(zip(COLUMNS, values)))
    ends = {name: np.mean([seed['mpjpe'] for seed in rungs[name]]) for name in (MEAN, FLOOR)}
    rows = [line(name, rungs[name]) for name in rungs if name != FLOOR]
    return markdown(['', 'images', 'time', 'MPJPE', 'PA-MPJPE', 'learnt', 'most hidden 30 %'],
                    [*rows, shipped(ends), line(FLOOR, rungs[FLOOR])])


def line(name: str, seeds: list[dict]) -> list[str]:
    """Make a row of the table, in mm; the time is that of the fastest seed."""
    columns = {key: [seed[key] for seed in seeds] for key in COLUMNS}
    minutes = min(columns['seconds']) / 60
    return [name, f'{columns["samples"][0]:,.0f}', f'{minutes:.0f} min' if minutes else '',
            of_seeds(columns['mpjpe']), of_seeds(columns['pa_mpjpe']),
            f'{np.mean(columns["learnt"]):.0f} %', of_seeds(columns['hidden'])]


def of_seeds(values: list[float]) -> str:
    return mean_std(values, 1) if len(values) > 1 else f'{values[0]:.1f}'


def read_score() -> dict[str, float]:
    """Return the score of the shipped weights, as pare.eval wrote it."""
    with open(REPORT / 'score.csv', newline='') as file:
        return {row['name']: float(row['value']) for row in csv.DictReader(file)}


def measures() -> str:
    """Make one row a measure of the shipped weights."""
    score = read_score()
    return markdown(['joints', 'from', 'MPJPE', 'PA-MPJPE'], [
        [what, origin, f'{score[name]:.1f}', f'{score[aligned]:.1f}' if aligned else '']
        for what, origin, name, aligned in MEASURES])


def shipped(ends: dict[str, float]) -> list[str]:
    """Make the row of the shipped weights, as pare.eval scored them."""
    score = read_score()
    learnt = 100 * (ends[MEAN] - score['MPJPE']) / (ends[MEAN] - ends[FLOOR])
    return ['shipped weights, seed 0', '', '', f'{score["MPJPE"]:.1f}', f'{score["PA-MPJPE"]:.1f}',
            f'{learnt:.0f} %', '']


TABLES = {'results': results, 'measures': measures}

if __name__ == '__main__':
    README.write_text(filled(README.read_text(), TABLES, COMMAND))
