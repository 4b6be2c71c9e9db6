"""Tests of lines, times, stages and configuration files, without files."""
