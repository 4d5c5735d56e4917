"""Cold starts taken apart and compared: ways to start, imports, ramps, thaws. Reaches the emulator over HTTP alone."""
