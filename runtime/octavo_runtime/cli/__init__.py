"""The `octavo` command: its sub-commands, and the flags that they take."""
