"""The exception for what a user can mend: one line on the screen, exit status 2."""


class InputError(ValueError):
    """A mistake in what a user gave: a file, a configuration value, an argument.

    The message is a single line that says what came, what was expected and how to mend it,
    with the file and the id where there is data. Anything else that is raised is a bug and
    keeps its traceback.
    """
