"""`python -m tokenkl`, which is also what `accelerate launch -m tokenkl` runs."""

from tokenkl.cli import main

main()
