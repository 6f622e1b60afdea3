"""`python -m octavo_runtime`, and the `octavo` command."""

import signal


def main() -> None:
    """Runs a sub-command. What is imported for it takes some tenths of a second, in which Ctrl-C ends the process
    without a word."""
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # a shell starts what runs in the background with SIGINT ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from octavo_runtime.cli.app import main as run

    signal.signal(signal.SIGINT, interrupt)
    run()


if __name__ == "__main__":
    main()
