"""Seconds until --help and --version have printed, beside peers where another interpreter has them.

python benchmarks/speed/startup.py [--peer-python PATH]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from measuring import machine, rounds, table, timed

PEERS = {
    "lm_eval": ["-m", "lm_eval", "--help"],
    "inspect_ai": ["-m", "inspect_ai", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer-python", help="interpreter that has lm_eval or inspect_ai")
    given = parser.parse_args()
    commands = {
        "evalft --help": [sys.executable, "-m", "evalft.cli", "--help"],
        "evalft --version": [sys.executable, "-m", "evalft.cli", "--version"],
    }
    for module, arguments in PEERS.items() if given.peer_python else ():
        if not subprocess.run([given.peer_python, "-c", f"import {module}"], capture_output=True).returncode:
            commands[f"{module} --help"] = [given.peer_python, *arguments]
    print(f"{machine()}\n")
    found = rounds({name: partial(timed, command) for name, command in commands.items()}, given.rounds)
    print(f"\n{table(found, 'evalft --help')}")


if __name__ == "__main__":
    main()
