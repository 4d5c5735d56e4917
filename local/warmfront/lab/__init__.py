"""Injects faults into an API's servers and processes, and judges which variant withstands them."""
