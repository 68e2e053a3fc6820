"""Run evalft from a clone without installing it: python cli.py --help"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "harness"))

from evalft.cli import main

main()
