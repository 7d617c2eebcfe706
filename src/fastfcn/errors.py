"""Errors a user can fix; the command line prints them without a traceback."""

WEIGHTS_HINT = "Give a weights file written by `fastfcn train` or `convert`."


class UserError(Exception):
    """Something in the input is wrong: `message` says what and where, `hint` how to fix it."""

    exit_code = 2

    def __init__(self, message: str, hint: str = ""):
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.message = message
        self.hint = hint


class RecipeError(UserError):
    """A recipe or an override is invalid."""


class DataError(UserError):
    """Images, masks or a dataset description are invalid."""


class WeightsError(UserError):
    """A weights file or checkpoint is missing, damaged or does not fit."""


class DivergedError(UserError):
    """Training diverged: the loss is NaN or infinite."""


class MissingFileError(WeightsError):
    """A weights file or checkpoint does not exist."""

    def __init__(self, path: object, hint: str = WEIGHTS_HINT):
        super().__init__(f"There is no file {path}.", hint)


class OutputError(UserError):
    """A file or folder cannot be written."""


class RepeatedError(UserError):
    """An error that all processes of a job raise; the command line prints it in the first one only."""


class MissingExtraError(UserError):
    """An optional package is not installed; the hint names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed.",
            f"Install it with: pip install 'fastfcn[{extra}]'",
        )


def first_line(error: Exception) -> str:
    """The first line of an exception's message that is not blank, or the name of its type if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
