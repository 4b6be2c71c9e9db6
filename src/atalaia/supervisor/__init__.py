"""The long-lived parent: start order, health, restart with backoff, adoption, control socket.

Services outlive it: killed with -9 it leaves them running, and the next one adopts them.
"""
