"""The one error a person sees when a query cannot be read."""


class LogQLError(Exception):
    """The query is not valid LogQL.

    Position and expectations are kept apart from the text so that an editor can underline the place
    and an API can answer in its own format. `str()` gives the whole sentence.
    """

    def __init__(self, message: str, line: int, column: int, expected: tuple[str, ...] = ()) -> None:
        super().__init__(message, line, column, expected)
        self.message = message
        self.line = line
        self.column = column
        self.expected = expected

    def __str__(self) -> str:
        text = f"line {self.line}, column {self.column}: {self.message}"
        if self.expected:
            text += f"; expected {_either(self.expected)}"
        return text


def _either(choices: tuple[str, ...]) -> str:
    if len(choices) == 1:
        return choices[0]
    return f"{', '.join(choices[:-1])} or {choices[-1]}"
