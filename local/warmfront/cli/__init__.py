"""The command line: one module for each subcommand; nothing else parses arguments."""
