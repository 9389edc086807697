"""One file a subcommand: parse, call the engine, print."""
