"""Logs that other tools write: a parser for each, from text to frozen arrays; and any as a trace."""
