"""Restores as their users ask for them: which backup, what would happen, parts of one into a running server.
Where all of a backup becomes a new server is `backup/restore`, the kinds fill it.
"""
