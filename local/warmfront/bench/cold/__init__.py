"""Measures cold starts: ways to start, imports, ramps and thaws, through an emulator over HTTP."""
