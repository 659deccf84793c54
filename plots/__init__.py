"""The report of the lab: README.md, and the scripts that make its charts and tables."""
from pathlib import Path

REPORT = Path(__file__).parent / 'report'
