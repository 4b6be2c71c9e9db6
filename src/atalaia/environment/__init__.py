"""What the environment is: atalaia.toml as typed settings, the state directory, secrets and ports.

Every other folder may import from here; this one imports from none of them.
"""
