"""Measures an API: load generation, interleaved blocks, statistics, sizing, cold starts, the emulator's own overhead."""
