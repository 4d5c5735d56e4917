"""Installs what functions and layers ask for in requirements.txt, pyproject.toml and package.json."""
