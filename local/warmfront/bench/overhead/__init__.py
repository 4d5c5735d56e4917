"""What the emulator itself costs: latency and CPU beside a bare route, observation, a peer."""
