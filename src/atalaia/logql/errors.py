"""The errors a person sees when a query cannot be read, or not be answered."""


class LogQLError(Exception):
    """The query is not valid LogQL.

    Position and expectations are kept apart from the text so that an editor can underline the place
    and an API can answer in its own format. `str()` gives it all, in the shape of Loki's message, which clients show
    and people look for.
    """

    def __init__(self, message: str, line: int, column: int, expected: tuple[str, ...] = ()) -> None:
        super().__init__(message, line, column, expected)
        self.message = message
        self.line = line
        self.column = column
        self.expected = expected

    def __str__(self) -> str:
        text = f"parse error at line {self.line}, col {self.column}: {self.message}"
        return f"{text}, expecting {_either(self.expected)}" if self.expected else text


class NotBuilt(LogQLError):
    """The query is LogQL, but this version of Atalaia cannot answer it yet."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not built yet; docs/logql.md lists what is", 0, 0, ())

    def __str__(self) -> str:
        return self.message


class TooComplex(LogQLError):
    """The query is valid but too long to be planned."""

    def __init__(self, what: str) -> None:
        super().__init__(what, 0, 0, ())

    def __str__(self) -> str:
        return self.message


class BadTemplate(LogQLError):
    """A template in the query cannot be read."""

    def __init__(self, what: str) -> None:
        super().__init__(what, 0, 0, ())

    def __str__(self) -> str:
        return self.message


class Impossible(LogQLError):
    """The query is valid, but what is stored gives it no meaning."""

    def __init__(self, what: str) -> None:
        super().__init__(what, 0, 0, ())

    def __str__(self) -> str:
        return self.message


def _either(choices: tuple[str, ...]) -> str:
    if len(choices) == 1:
        return choices[0]
    return f"{', '.join(choices[:-1])} or {choices[-1]}"
