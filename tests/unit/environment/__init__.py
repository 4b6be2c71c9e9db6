"""Tests of atalaia.toml, units and ports, without files and sockets."""
