"""Rubric files (YAML) for judges of kind `rubric`; a package so that they are installed."""
