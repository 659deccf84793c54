"""Write the tables of README.md in this folder, between its markers, from report/*.csv.

    python -m plots.tables
"""
import csv
from dataclasses import astuple
from pathlib import Path

import numpy as np

from common.files import filled, markdown, mean_std
from plots import REPORT
from plots.benchmark import MARTINEZ, OURS, RECIPES
from plots.experiments import QUESTIONS, SHOWN, WAYS, Variant, value_of

README = Path(__file__).parent / 'README.md'
COMMAND = 'python -m plots.tables'


def read(name: str) -> list[dict]:
    with open(REPORT / name, newline='') as file:
        return list(csv.DictReader(file))


def last_epoch(row: str, epochs: int) -> np.ndarray:
    """Return MPJPE and MPJPE with noise (seeds, 2) after trainings on motion capture."""
    return np.array([[float(line['mpjpe']), float(line['noisy'])] for line in read('benchmark.csv')
                     if (line['data'], line['row'], line['epochs'], line['epoch'])
                     == ('data_train.pkl', row, str(epochs), str(epochs))])


def baseline() -> str:
    """Return a row for each recipe, 8 epochs and seeds 0 to 2; then two of 40 epochs, seed 0."""
    rows = []
    for row in RECIPES:
        if len(measured := last_epoch(row, 8)):
            mpjpe, noisy = measured.T
            rows.append([row, mean_std(mpjpe), mean_std(noisy, 4)])
    for row in (OURS, MARTINEZ):
        (mpjpe, noisy), = last_epoch(row, 40)
        rows.append([f'{row}, 40 epochs, seed 0', f'{mpjpe:.5f}', f'{noisy:.4f}'])
    return markdown(['', 'exact 2D joints', 'noise 0.005'], rows)


def network() -> str:
    """Return a row for each variant, on every third pose of the motion capture."""
    lines = [line for line in read('network.csv') if line['data'] == 'data_train / 3']

    def measured(variant: Variant) -> np.ndarray:
        keys = dict(zip(lines[0], map(str, astuple(variant))))
        return np.array([[float(line[key]) for key in ('val', 'test', 'seconds', 'parameters')]
                         for line in lines if keys.items() <= line.items()])

    default, rows = measured(Variant()), []
    for question, variants in QUESTIONS.items():
        for variant in variants:
            val, test, seconds, parameters = measured(variant).T
            label = ' '.join(value_of(question, variant).split())
            time = seconds.min() / default[:, 2].min()
            rows.append([question * (variant == variants[0]), label, mean_std(val), mean_std(test),
                         f'{time:.1f}', f'{parameters[0] / 1e6:.1f}'])
    return markdown(['question', 'variant', 'validation', 'test', 'time', 'million weights'], rows)


def weak() -> str:
    """Return a row for each way to learn, a column for each noise, on 1/8 of the motion capture."""
    values = {}
    for line in read('weak.csv'):
        values.setdefault((line['way'], line['noise']), []).append(float(line['mpjpe']))
    noises = list(dict.fromkeys(noise for _, noise in values))
    return markdown(['', *(f'noise {noise}' if noise != '0' else 'exact' for noise in noises)],
                 [[way, *(mean_std(values[way, noise], 4) for noise in noises)] for way in WAYS])


def joints() -> str:
    """Return a row for each pair of joints, left and right together, on motion capture."""
    values = {line['x']: np.array([float(line[key]) for key in ('error', 'along', 'across')])
              for line in read('errors.csv')
              if (line['data'], line['chart']) == ('data_train', 'joint')}
    rows = []
    for name in ('Hip', 'Knee', 'Ankle', 'Shoulder', 'Elbow', 'Wrist'):
        rows.append([name.lower(), *(f'{value:.4f}' for value in (values[f'L{name}']
                                                                 + values[f'R{name}']) / 2)])
    mean = np.mean(list(values.values()), axis=0)
    rows.append(['all 15 joints', *(f'{value:.4f}' for value in mean)])
    return markdown(['', 'error', 'along the ray', 'across it'], rows)


def detector() -> str:
    """Return a row for each way to show people: N-MPJPE / PA-MPJPE in mm for each set of people."""
    values = {(line['data'], line['shown']): f'{line["n_mpjpe"]} / {line["pa_mpjpe"]}'
              for line in read('detector.csv')}
    people = list(dict.fromkeys(data for data, _ in values))
    return markdown(['', *people], [[shown, *(values[data, shown] for data in people)]
                                 for shown in SHOWN])


TABLES = {'baseline': baseline, 'network': network, 'weak': weak, 'joints': joints,
          'detector': detector}


if __name__ == '__main__':
    README.write_text(filled(README.read_text(), TABLES, COMMAND))
