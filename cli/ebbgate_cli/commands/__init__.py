"""One module per command: arguments, help, exit code. What a command does is in the modules beside."""
