"""The command line: flags, help texts, and the assembly of `serve`."""
