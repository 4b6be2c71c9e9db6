"""The commands: parsing and printing only, one module a command group.

What they do is done in the folders below; heavy imports wait until a command needs them.
"""
