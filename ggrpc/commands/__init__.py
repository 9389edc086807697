"""The command line: one file per subcommand, which parses, calls the engine, prints."""
