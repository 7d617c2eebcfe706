"""Errors that are the user's to mend: the command line prints them in one piece, without a traceback."""


class UserError(Exception):
    """Something in the input is wrong; `message` says what and where, `hint` what to do about it."""

    exit_code = 2

    def __init__(self, message: str, hint: str = ""):
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.message = message
        self.hint = hint


class RecipeError(UserError):
    """A recipe, or an override of one, cannot be used."""


class DataError(UserError):
    """Images, labels or their description cannot be used."""


class WeightsError(UserError):
    """A weights file or checkpoint cannot be used."""


class DivergedError(UserError):
    """Training went wrong: its loss is no number any more."""


class OutputError(UserError):
    """A file or folder cannot be written."""


class MissingExtraError(UserError):
    """An optional package is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed.",
            f"Install it with: pip install 'fastfcn[{extra}]'",
        )
