from .sqlcheck import engine

__all__ = ["engine"]
