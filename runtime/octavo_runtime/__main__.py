"""`python -m octavo_runtime`, and the `octavo` command."""

from octavo_runtime.cli.app import main

if __name__ == "__main__":
    main()
