"""`python -m atalaia`: the same as the command `atalaia`."""

from atalaia.cli.main import run

if __name__ == "__main__":
    run()
