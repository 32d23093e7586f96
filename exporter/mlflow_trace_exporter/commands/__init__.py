"""The command line: flags, help texts, and `serve` put together."""
