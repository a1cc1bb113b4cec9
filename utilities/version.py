"""The version of the program; CHANGELOG.md says what each one brought."""

VERSION = "1.0.0"
