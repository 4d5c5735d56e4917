"""A lab bench for API handlers on AWS Lambda: emulator, benchmark, failure lab."""
