"""`python -m tupelo` is the command `tupelo`."""

from tupelo.cli import app

if __name__ == "__main__":
    app()
