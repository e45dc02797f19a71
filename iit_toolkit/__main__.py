"""Runs the command line: `python -m iit_toolkit`."""

from iit_toolkit.cli import main

if __name__ == "__main__":
    main()
