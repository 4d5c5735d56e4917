"""Load generator: reads workload files, renders requests and sends them in closed or open loops from a separate process."""
