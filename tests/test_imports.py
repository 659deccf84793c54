"""Imports run one way: plots/ may import the scripts, these and pare/ may import common/."""
import ast

import pytest

from conftest import ROOT

SCRIPTS = {path.stem for path in ROOT.glob('*.py')}
FORBIDDEN = {'*.py': {'pare', 'plots'}, 'plots/*.py': {'pare'},
             'common/*.py': SCRIPTS | {'pare', 'plots'},
             'pare/**/*.py': SCRIPTS - {'metrics', 'model'} | {'plots'}}


@pytest.mark.parametrize('files', FORBIDDEN)
def test_imports_run_one_way(files):
    paths = list(ROOT.glob(files))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                     [node.module] if isinstance(node, ast.ImportFrom) and not node.level else [])
            wrong = {name.partition('.')[0] for name in names} & FORBIDDEN[files]
            assert not wrong, f'{path.relative_to(ROOT)}, line {node.lineno}: imports {wrong}'
