"""What is said where one experiment is run by itself, as a file or as a module.

`python experiments/accuracy.py` finds this file in place of the package around it, since Python
looks for `experiments` beside the file that it runs. As `python -m experiments.accuracy` it is the
package that is found, and `Experiment` asks.
"""

import sys
from pathlib import Path
from typing import NoReturn


def refuse(name: str) -> NoReturn:
    """Say in one sentence what to do, and leave."""
    print(
        f"Error: an experiment is not run by itself; in the folder of the source, run "
        f"`python -m experiments {name}`, or `python -m experiments --list` to see all.",
        file=sys.stderr,
    )
    sys.exit(2)


if __name__ == "experiments":
    refuse(Path(sys.argv[0]).stem)
