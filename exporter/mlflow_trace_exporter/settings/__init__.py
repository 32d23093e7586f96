"""The configuration file and the web configuration file."""
