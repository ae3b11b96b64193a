"""Logs that other tools write: a parser for each, to frozen arrays; and any of them as a trace."""
