"""``python -m wattshed``."""

from wattshed.cli import main

main(prog_name="wattshed")
