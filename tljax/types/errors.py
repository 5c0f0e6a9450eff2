"""The errors that a user can cause."""


class InputError(ValueError):
    """Invalid user input; the message says what, where, what was found and what was wanted."""


class MisfitError(InputError):
    """Leaves of a known family in a variant that it does not support; the message says which."""
